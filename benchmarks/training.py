"""Compare training with the usual way, that of the published recipe.

    python -m benchmarks.training [--source FOLDER] [--config FOLDER]
    python -m benchmarks.training --converge [--seeds 3] [--epochs 15]

`usual` is the transformers Trainer as the recipe uses it: random batches of 8 windows, padded to the longest, fp32, and
defaults otherwise. `koner` is `koner.training.fit.train` with params.yaml and the options of this command; its learning
rate grows with the square root of the batch size, as Adam requires. Both train the same model in the shape of
klue/roberta-base with random weights for one epoch on the same real sentences, each in a new process, in alternating
order.

Prints samples per second after the first steps, peak memory, the share of padding in all tokens and, on a GPU, the
share of the chip's bf16 peak that the real tokens use (6 FLOPs per parameter and token, without embeddings). The
figures are medians of the repeats; a ratio compares runs of the same repeat.

--converge trains a small model from random weights with several seeds instead. It prints span F1 on the validation
part, the mean difference, and a paired bootstrap over the sentences with the counts of all seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from benchmarks import random_model, sentences
from benchmarks.processes import ROOT, run_module
from benchmarks.reporting import (
    MIB,
    alternate,
    describe_machine,
    format_median,
    format_table,
    make_parser,
    paired_ratios,
    positive_number,
    write_json,
)
from benchmarks.sentences import BenchmarkSentences
from benchmarks.training_run import BASE, KONER, PARAMS_NAME, PART_NAME, USUAL, USUAL_BATCH_SIZE, WAYS
from koner.corpus.parts import DEVELOPMENT, TEST, TRAIN
from koner.corpus.sentences import Sentence
from koner.encoder.base_model import prepare_base_model
from koner.errors import exit_on_error
from koner.evaluation.bootstrap import micro_f1, paired
from koner.labels.klue import KLUE
from koner.params import OWN, SCRATCH, Params, load_params
from koner.storage.parquet import write_rows
from koner.tokens.alignment import ALIGNED_SCHEMA, align, aligned_to_row

_MIN_DEVELOPMENT_SENTENCES = 8
_FLOPS_PER_PARAMETER = 6  # per token: 2 of the forward pass, 4 of the backward pass
# Dense bf16 FLOPs per second from data sheets; the first name that occurs in the name of the device applies.
_PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}

# The figures of every run by way.
Trials = Mapping[str, list[dict[str, Any]]]


def make_params(arguments: argparse.Namespace) -> dict[str, Params]:
    """Return the parameters of both ways."""
    params = load_params(ROOT / "params.yaml")
    batch_size = arguments.batch_size or params.batch_size
    common: dict[str, Any] = {
        "patience": 0,
        "epochs": arguments.epochs if arguments.converge else 1,
        "augment": 0,
        "base_model": SCRATCH,
    }
    if arguments.converge:
        tokenizer = str(arguments.config or OWN)
        common |= {"layers": arguments.layers or 4, "hidden_size": 256, "heads": 4, "tokenizer": tokenizer}
    koner = {
        "batch_size": batch_size,
        "batching": arguments.batching,
        "precision": arguments.precision,
        "lr": arguments.lr * (batch_size / USUAL_BATCH_SIZE) ** 0.5,
    }
    return {
        USUAL: params.model_copy(update={**common, "lr": arguments.lr}),
        KONER: params.model_copy(update={**common, **koner}),
    }


def divide_sentences(corpus: BenchmarkSentences, arguments: argparse.Namespace) -> dict[str, list[Sentence]]:
    """Divide the sentences into parts; only --converge evaluates on test sentences."""
    order = np.random.default_rng(0).permutation(len(corpus.train))
    shuffled = [corpus.train[i] for i in order]
    if arguments.converge:
        size = max(_MIN_DEVELOPMENT_SENTENCES, len(shuffled) // 10)
        return {TRAIN: shuffled[size:], DEVELOPMENT: shuffled[:size], TEST: corpus.validation}
    size = _MIN_DEVELOPMENT_SENTENCES
    return {TRAIN: shuffled[size : size + arguments.samples], DEVELOPMENT: shuffled[:size], TEST: []}


def prepare(folder: Path, arguments: argparse.Namespace) -> dict[str, Params]:
    """Write the parameters of both ways, the base model and the aligned sentences, and return the parameters."""
    corpus = sentences.read_sentences(arguments)
    params_by_way = make_params(arguments)
    for way, params in params_by_way.items():
        (folder / PARAMS_NAME.format(way=way)).write_text(params.model_dump_json())
    params = params_by_way[USUAL]
    if arguments.converge:
        prepare_base_model(params, corpus.train, folder / BASE)
    else:
        random_model.write_model(folder / BASE, arguments.config, arguments.layers, corpus.train)
    tokenizer = AutoTokenizer.from_pretrained(folder / BASE, local_files_only=True)
    for part, part_sentences in divide_sentences(corpus, arguments).items():
        aligned = align(part_sentences, tokenizer, params.max_length, params.stride, KLUE)
        write_rows(folder / PART_NAME.format(part=part), map(aligned_to_row, aligned), ALIGNED_SCHEMA)
    return params_by_way


def train_in_process(way: str, folder: Path, seed: int, environment: Sequence[str]) -> dict[str, Any]:
    """Train in a new process, as the stage does; `environment` (NAME=VALUE) applies to koner only."""
    variables = dict(setting.split("=", 1) for setting in environment) if way == KONER else {}
    options = ["--way", way, "--folder", str(folder), "--seed", str(seed)]
    return run_module("benchmarks.training_run", *options, environment=variables)


def run_trials(folder: Path, arguments: argparse.Namespace) -> Trials:
    """Train in both ways in each repeat, in alternating order; --converge has a repeat for each seed."""
    trials: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for repeat in range(arguments.seeds if arguments.converge else arguments.repeats):
        seed = repeat if arguments.converge else 0
        for way in alternate(WAYS, repeat):
            figures = train_in_process(way, folder, seed, arguments.environment)
            trials[way].append(figures)
            print(f"{way}, {repeat + 1}: {figures['samples_a_second']:.1f} samples per second", flush=True)
    return trials


def format_speed(trials: Trials) -> str:
    """Format the medians as a Markdown table."""
    gpu = trials[KONER][0].get("gpu", "")
    peak_flops = next((flops for name, flops in _PEAK_FLOPS.items() if name in gpu), None)
    koner_rates = [figures["samples_a_second"] for figures in trials[KONER]]
    rows = []
    for way, runs in trials.items():
        rates = [figures["samples_a_second"] for figures in runs]
        ratios = paired_ratios(koner_rates, rates)
        row = [
            f"{way} ({'bf16' if runs[0]['bf16'] else 'fp32'})",
            format_median(rates),
            "" if way == KONER else f"{format_median(ratios, 2)} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{runs[0]['padding']:.1%}",
            str(runs[0]["steps"]),
            format_median((figures["memory"] / MIB for figures in runs), 0),
        ]
        if gpu:
            row.append(format_median((figures["gpu_memory"] / MIB for figures in runs), 0))
        if peak_flops:
            flops = [_FLOPS_PER_PARAMETER * f["parameters"] * f["tokens_a_second"] for f in runs]
            row.append(f"{format_median((100 * value / peak_flops for value in flops), 1)}%")
        rows.append(row)
    head = ["way", "samples/s", f"{KONER} / this way", "padding", "steps", "peak memory, MiB (RSS)"]
    head += ["GPU memory, MiB"] if gpu else []
    head += ["share of the bf16 peak"] if peak_flops else []
    return format_table(head, rows)


def format_f1(trials: Trials) -> str:
    """Format the F1 of each seed as a Markdown table, followed by the paired test of the difference."""
    counts = {way: [np.array(figures["counts"]) for figures in runs] for way, runs in trials.items()}
    f1 = {way: [float(micro_f1(c.sum(axis=0))) for c in seed_counts] for way, seed_counts in counts.items()}
    rows = [
        [
            way,
            *(f"{figure:.4f}" for figure in figures),
            f"{mean(figures):.4f}",
            f"{stdev(figures):.4f}" if len(figures) > 1 else "",
        ]
        for way, figures in f1.items()
    ]
    # Each resample takes a sentence with its counts under all seeds.
    test = paired(*(np.sum(counts[way], axis=0) for way in WAYS), micro_f1)
    difference = mean(f1[KONER]) - mean(f1[USUAL])
    head = ["span F1", *(f"seed {seed}" for seed in range(len(f1[USUAL]))), "mean", "sd"]
    return (
        f"{format_table(head, rows)}\n\n"
        f"{KONER} - {USUAL}: {difference:+.4f} on average; over the entities of all seeds {test.difference:+.4f}, "
        f"95% interval {test.low:+.4f} to {test.high:+.4f}, p = {test.p_value:.3f}"
    )


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    sentences.add_options(parser, sentences=800)
    random_model.add_options(parser)
    parser.add_argument("--samples", type=int, default=512, help="training sentences without --converge")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=USUAL_BATCH_SIZE, help="of koner (default: %(default)s); 0: as in params.yaml"
    )
    parser.add_argument("--batching", choices=("packed", "padded"), default="packed", help="of koner")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of koner")
    parser.add_argument(
        "--environment", nargs="+", default=[], metavar="NAME=VALUE", help="environment variables of koner"
    )
    parser.add_argument("--converge", action="store_true", help="compare F1 instead of speed")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds with --converge (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="epochs with --converge (default: %(default)s)")
    parser.add_argument(
        "--lr", type=positive_number, default=5e-4, help="learning rate of the usual way (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file for every single measurement")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with TemporaryDirectory() as folder:
        params = prepare(Path(folder), arguments)[KONER]
        trials = run_trials(Path(folder), arguments)
    print(f"\n{describe_machine()}; {trials[KONER][0].get('gpu', 'no GPU')}")
    print(f"{KONER}: batch_size {params.batch_size}, batching {params.batching}, lr {params.lr:.3g}\n")
    print(format_f1(trials) if arguments.converge else format_speed(trials))
    if arguments.json:
        write_json(arguments.json, arguments, trials)


if __name__ == "__main__":
    with exit_on_error():
        main()
