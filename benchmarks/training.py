"""Training against the published recipe's own way: python -m benchmarks.training [--source FOLDER] [--config FOLDER]

`usual` is transformers' Trainer as the recipe calls it: batches of 8 windows in random order, padded to the longest,
fp32, and the Trainer's defaults. `koner` is `koner.training.train` with the settings of params.yaml but for what the
options say, and its learning rate scaled to its batch by the square root, as Adam's is. Both train one model of
klue/roberta-base's shape with random weights for an epoch on the same real sentences, each in a process of its own, in
alternating order. Prints samples a second after the first steps (medians over the repeats; ratios are of the same
repeat), the most memory, the share of the tokens that is padding, and on a GPU the share of the chip's bf16 peak that
the real tokens make (6 FLOPs a parameter and token, embeddings left out).

--converge instead trains a small model from random weights by both ways for --epochs, with --seeds seeds, and prints
span F1 on the validation part, the mean difference, and a paired test over the sentences, the seeds' counts together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks import material, random_model
from benchmarks.metering import Meter
from benchmarks.processes import ROOT, most_memory
from benchmarks.reporting import cores, machine, table
from koner.alignment import RETAGGED_SCHEMA, read_retagged, retag, retagged_to_row
from koner.base_model import prepare_base_model
from koner.bootstrap import micro_f1, paired, span_counts
from koner.corpus import Sentence
from koner.errors import KonerError, told_plainly
from koner.params import Params, load_params
from koner.parquet import write_rows
from koner.predictions import predict
from koner.tagger import Tagger
from koner.training import best_labels, build_model, token_scores, train, uses_bf16
from koner.windows import WindowDataset

USUAL, KONER = "usual", "koner"
WAYS = (USUAL, KONER)
_USUAL_BATCH = 8
_MIB = 2**20
# Dense bf16 FLOPs a second, from the makers' data sheets; the first name that the device's holds.
_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}


def train_usual(
    params: Params, base: Path, parts: dict[str, WindowDataset], folder: Path, callbacks: Sequence[TrainerCallback]
) -> None:
    """The recipe's way: a Trainer with nothing set but what the recipe sets."""
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    torch.manual_seed(params.seed)
    trainer = Trainer(
        model=build_model(base, params.dropout),
        args=TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            per_device_train_batch_size=_USUAL_BATCH,
            num_train_epochs=params.epochs,
            learning_rate=params.lr,
            weight_decay=params.weight_decay,
            seed=params.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="f1",
            report_to="none",
        ),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=parts["train"],
        eval_dataset=parts["development"],
        compute_metrics=token_scores,
        preprocess_logits_for_metrics=best_labels,
        callbacks=list(callbacks),
    )
    trainer.train()
    trainer.save_model(str(folder / "trained"))
    tokenizer.model_max_length = params.max_length
    tokenizer.save_pretrained(folder / "trained")


def run_way(way: str, work: Path, seed: int) -> dict[str, Any]:
    """Trains by one way in this process; `work` holds the parameters, the base model and the sentences."""
    params = Params.model_validate_json((work / f"{way}.json").read_bytes()).model_copy(update={"seed": seed})
    parts = {part: WindowDataset.read(work / f"{part}.parquet") for part in ("train", "development")}
    test = list(read_retagged(work / "test.parquet"))
    meter = Meter()
    with TemporaryDirectory(dir=work) as scratch:
        folder = Path(scratch)
        if way == USUAL:
            train_usual(params, work / "base", parts, folder, [meter])
        else:
            run = (parts["train"], parts["development"], folder / "trained", folder / "checkpoints", "run", [meter])
            train(params, work / "base", *run)
        found: dict[str, Any] = {
            **meter.figures(),
            "memory": most_memory(),
            "bf16": way == KONER and uses_bf16(params.precision),
        }
        if torch.cuda.is_available():
            found |= {"gpu_memory": torch.cuda.max_memory_reserved(), "gpu": torch.cuda.get_device_name()}
        if test:
            counts = span_counts(predict(Tagger.load(folder / "trained", "cpu", cores()), test))
            found["counts"] = counts.tolist()
        else:
            found["parameters"] = _of_matrices(folder / "trained")
    return found


def _of_matrices(model: Path) -> int:
    """A model's parameters but for its embeddings, which are looked up, not multiplied by."""
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys() if "embeddings" not in name]  # noqa: SIM118
    return int(sum(np.prod(shape) for shape in shapes))


def fresh(way: str, work: Path, seed: int, environment: Sequence[str]) -> dict[str, Any]:
    """Trains by one way in a process of its own, as the stage does; `environment` (NAME=VALUE) is for koner alone."""
    command = [sys.executable, "-m", "benchmarks.training", "--way", way, "--work", str(work), "--seed", str(seed)]
    own = dict(setting.split("=", 1) for setting in environment) if way == KONER else {}
    done = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True
    )
    if done.returncode:
        raise KonerError(f"{way} failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare(work: Path, arguments: argparse.Namespace) -> dict[str, Params]:
    """Writes the parameters of both ways, the base model, and the sentences retagged to its tokens."""
    found = material.read_material(arguments)
    written = load_params(ROOT / "params.yaml")
    # What the ways have in common; plain labels, since the recipe knows no others.
    common = {"boundaries": False, "patience": 0, "epochs": arguments.epochs if arguments.converge else 1, "augment": 0}
    batch = arguments.batch_size or written.batch_size
    scaled = arguments.lr * (batch / _USUAL_BATCH) ** 0.5
    own = {"batch_size": batch, "batching": arguments.batching, "precision": arguments.precision, "lr": scaled}
    shape = {
        "layers": arguments.layers or 4,
        "hidden_size": 256,
        "heads": 4,
        "tokenizer": str(arguments.config or "own"),
    }
    base = written.model_copy(update={**common, **(shape if arguments.converge else {}), "base_model": "scratch"})
    ways = {USUAL: base.model_copy(update={"lr": arguments.lr}), KONER: base.model_copy(update=own)}
    for way, params in ways.items():
        (work / f"{way}.json").write_text(params.model_dump_json())
    if arguments.converge:
        prepare_base_model(base, found.train, work / "base")
    else:
        random_model.write_model(work / "base", arguments.config, arguments.layers, found.train)
    tokenizer = AutoTokenizer.from_pretrained(work / "base", local_files_only=True)
    drawn = [found.train[i] for i in np.random.default_rng(0).permutation(len(found.train))]
    held = max(8, len(drawn) // 10) if arguments.converge else 8
    training = drawn[held:] if arguments.converge else drawn[held:][: arguments.samples]
    test = found.asked if arguments.converge else []
    parts: dict[str, list[Sentence]] = {"train": training, "development": drawn[:held], "test": test}
    for part, sentences in parts.items():
        retagged = retag(sentences, tokenizer, base.max_length, base.stride)
        write_rows(work / f"{part}.parquet", map(retagged_to_row, retagged), RETAGGED_SCHEMA)
    return ways


def repeat(work: Path, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Both ways, as often as asked for, the order turned round each time."""
    trials: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for turn in range(arguments.seeds if arguments.converge else arguments.repeats):
        for way in WAYS[:: 1 if turn % 2 == 0 else -1]:
            trials[way].append(fresh(way, work, turn if arguments.converge else 0, arguments.environment))
            print(f"{way}, {turn + 1}: {trials[way][-1]['samples_a_second']:.1f} samples a second", flush=True)
    return trials


def shown(trials: dict[str, list[dict[str, Any]]]) -> str:
    """The medians as a Markdown table."""
    gpu = trials[KONER][0].get("gpu", "")
    peak = next((flops for name, flops in _PEAKS.items() if name in gpu), None)
    rows = []
    for way, seen in trials.items():
        ratios = [o["samples_a_second"] / t["samples_a_second"] for o, t in zip(trials[KONER], seen, strict=True)]
        row = [
            f"{way} ({'bf16' if seen[0]['bf16'] else 'fp32'})",
            f"{median(t['samples_a_second'] for t in seen):.1f}",
            "" if way == KONER else f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{seen[0]['padding']:.1%}",
            str(seen[0]["steps"]),
            f"{median(t['memory'] for t in seen) / _MIB:.0f}",
        ]
        if gpu:
            row.append(f"{median(t['gpu_memory'] for t in seen) / _MIB:.0f}")
        if peak:
            row.append(f"{median(6 * t['parameters'] * t['tokens_a_second'] for t in seen) / peak:.1%}")
        rows.append(row)
    head = ["way", "samples/s", f"{KONER} / it", "padding", "steps", "most memory, MiB (RSS)"]
    return table([*head, *(["GPU memory, MiB"] if gpu else []), *(["of the bf16 peak"] if peak else [])], rows)


def shown_f1(trials: dict[str, list[dict[str, Any]]]) -> str:
    """The F1 of each seed as a Markdown table, with the paired test of the difference below it."""
    counts = {way: [np.array(t["counts"]) for t in seen] for way, seen in trials.items()}
    f1 = {way: [float(micro_f1(c.sum(axis=0))) for c in seen] for way, seen in counts.items()}
    rows = [
        [way, *(f"{figure:.4f}" for figure in found), f"{mean(found):.4f}", f"{np.std(found, ddof=1):.4f}"]
        for way, found in f1.items()
    ]
    # Each resample takes a sentence with its counts under every seed.
    test = paired(*(np.sum(counts[way], axis=0) for way in WAYS), micro_f1)
    apart = mean(f1[KONER]) - mean(f1[USUAL])
    return (
        table(["span F1", *(f"seed {seed}" for seed in range(len(f1[USUAL]))), "mean", "spread"], rows)
        + f"\n\n{KONER} - {USUAL}: {apart:+.4f} in the mean; of all seeds' entities together {test.difference:+.4f}, "
        f"95 % interval {test.low:+.4f} to {test.high:+.4f}, p = {test.p_value:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    material.add_options(parser, sentences=800)
    random_model.add_options(parser)
    parser.add_argument("--samples", type=int, default=512, help="sentences trained on where speed is measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=_USUAL_BATCH, help="of koner; 0: as in params.yaml")
    parser.add_argument("--batching", choices=("packed", "padded"), default="packed", help="of koner")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of koner")
    parser.add_argument(
        "--environment", nargs="+", default=[], metavar="NAME=VALUE", help="of koner: THP_MEM_ALLOC_ENABLE=1 ..."
    )
    parser.add_argument("--converge", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15, help="for --converge, %(default)s")
    parser.add_argument("--lr", type=float, default=5e-4, help="of the usual way, %(default)s")
    parser.add_argument("--json", type=Path, help="write every single measurement there")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(run_way(arguments.way, arguments.work, arguments.seed)))
        return
    with TemporaryDirectory() as folder:
        ways = prepare(Path(folder), arguments)
        trials = repeat(Path(folder), arguments)
    ours = ways[KONER]
    print(f"\n{machine()}; {trials[KONER][0].get('gpu', 'no GPU')}")
    print(f"{KONER}: batch_size {ours.batch_size}, batching {ours.batching}, lr {ours.lr:.3g}\n")
    print(shown_f1(trials) if arguments.converge else shown(trials))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "measured": trials}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with told_plainly():
        main()
