"""What each lever is worth: python -m benchmarks.levers --source FOLDER --tokenizer FOLDER plain 'legal legal=true' ...

A variant is a name and the parameters in which it differs from the plain recipe (a small model from random weights, no
augmentation, labels that are plain tags, each token's likeliest label); the first is what the others are compared with.
Each is trained with every seed on the source's training part, of which a tenth is held out for development, and scored
on its validation part. Prints span F1 by seed, the mean difference from the first variant, and two tests of it: a
paired bootstrap by sentence over the counts of all seeds (these models, on other sentences) and a paired t-test over
the seeds (these sentences, by other models). --folder keeps the models: what is there is not trained again, and
variants that train alike (`legal`, `outside_bias` only decode) share one.
"""

import argparse
import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML
from scipy.stats import ttest_rel
from transformers import AutoTokenizer

from benchmarks.reporting import machine, table
from koner.alignment import retag
from koner.augmentation import NAMES, augmented, read_names
from koner.base_model import prepare_base_model
from koner.bootstrap import Counts, micro_f1, paired, span_counts
from koner.calibration import fit_outside_bias
from koner.corpus import to_row
from koner.decoding import DecodingSettings
from koner.errors import told_plainly
from koner.params import PARAMS_FILE, Params, check_params, read_yaml
from koner.predictions import predict
from koner.sources import TRAIN, VALIDATION, read_checked, read_source
from koner.splitting import outline, split
from koner.tagger import Tagger
from koner.training import train
from koner.windows import WindowDataset

PLAIN = {
    "base_model": "scratch",
    "base_model_revision": None,
    "isolate_unspelt": False,
    "drop_crossing": False,
    "boundaries": False,
    "layers": 2,
    "hidden_size": 128,
    "heads": 4,
    "protocol": "holdout",
    "development_share": 0.1,
    "augment": 0,
    "lr": 1e-3,
    "batch_size": 16,
    "batching": "packed",
    "epochs": 15,
    "patience": 0,
    "warmup_share": 0.1,
    "legal": False,
    "outside_bias": False,
}
DECODING = ("legal", "outside_bias")
SPLIT_SEED = 42  # the same parts for every seed


def params_of(variant: str, seed: int, arguments: argparse.Namespace) -> Params:
    """The parameters of a variant: those of params.yaml, the plain recipe's, and its own."""
    own = dict(setting.split("=", 1) for setting in variant.split()[1:])
    values = {key: YAML(typ="safe", pure=True).load(value) for key, value in own.items()}
    given = {"source": arguments.source, "tokenizer": arguments.tokenizer, "seed": seed}
    return check_params({**read_yaml(PARAMS_FILE), **PLAIN, **given, **values}, PARAMS_FILE, Params)


def counts_of(params: Params, folder: Path) -> Counts:
    """Trains a model, or takes the one that is there; gives its counts on the validation part, by sentence."""
    parts = read_checked(read_source(params.source, params.source_config, params.source_revision))
    values = {key: value for key, value in params.model_dump().items() if key not in DECODING}
    folder /= hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    if not (folder / "base").is_dir():
        prepare_base_model(params, parts[TRAIN], folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base", local_files_only=True)
    tagged = [
        retag(parts[part], tokenizer, params.max_length, params.stride, params.boundaries)
        for part in (TRAIN, VALIDATION)
    ]
    outlines = [outline([pa.RecordBatch.from_pylist([to_row(r.sentence) for r in part])]) for part in tagged]
    chosen, _ = split(*outlines, params.protocol, params.development_share, SPLIT_SEED)
    published = dict(zip((TRAIN, VALIDATION), tagged, strict=True))
    divided = {
        name: [r for r, taken in zip(published[part.published], part.taken, strict=True) if taken]
        for name, part in chosen.items()
    }
    if not (folder / "model").is_dir():
        sentences = [r.sentence for r in divided["train"]]
        extra = augmented(sentences, read_names(NAMES, sentences), params.augment, params.seed)
        more = retag(list(extra), tokenizer, params.max_length, params.stride, params.boundaries)
        training, development = WindowDataset(divided["train"] + more), WindowDataset(divided["development"])
        (folder / "params.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
        train(params, folder / "base", training, development, folder / "model", folder / "steps", "run")
    tagger = Tagger.load(folder / "model", "cpu")
    tagger.settings = DecodingSettings(legal=params.legal)
    if params.outside_bias:
        bias = fit_outside_bias(tagger, divided["development"])
        tagger.settings = DecodingSettings(legal=params.legal, outside_bias=bias)
    return span_counts(predict(tagger, tagged[1]))


def row_of(variant: str, counts: Sequence[Counts], plain: Sequence[Counts]) -> list[str]:
    """A line of the table: F1 by seed, and how it differs from the first variant's."""
    figures = [float(micro_f1(one.sum(axis=0))) for one in counts]
    mean = statistics.mean(figures)
    spread = statistics.stdev(figures) if len(figures) > 1 else 0.0
    row = [variant, " ".join(f"{f:.4f}" for f in figures), f"{mean:.4f} ± {spread:.4f}"]
    if counts is plain:
        return [*row, "", "", "", ""]
    before = [float(micro_f1(one.sum(axis=0))) for one in plain]
    found = paired(np.sum(plain, axis=0), np.sum(counts, axis=0), micro_f1)
    by_seed = f"{ttest_rel(figures, before).pvalue:.4f}" if len(figures) > 1 else ""
    interval = f"{found.low:+.4f} to {found.high:+.4f}"
    return [*row, f"{mean - statistics.mean(before):+.4f}", interval, f"{found.p_value:.4f}", by_seed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--source", default="sample", help="as the parameter")
    parser.add_argument("--tokenizer", default="own", help="as the parameter")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 1, 2, 3, ...")
    parser.add_argument("--folder", type=Path, default=Path("models/levers"), help="where models are kept")
    arguments = parser.parse_args()
    print(f"{machine()}\n", flush=True)
    by_variant: dict[str, list[Counts]] = {}
    for seed in range(1, arguments.seeds + 1):
        for variant in arguments.variants:
            counts = counts_of(params_of(variant, seed, arguments), arguments.folder)
            by_variant.setdefault(variant, []).append(counts)
            print(f"seed {seed}, {variant}: {float(micro_f1(counts.sum(axis=0))):.4f}", flush=True)
    plain = by_variant[arguments.variants[0]]
    head = ["variant", "span F1 by seed", "mean ± sd", "difference", "95 % interval", "p, sentences", "p, seeds"]
    print(f"\n{table(head, [row_of(variant, counts, plain) for variant, counts in by_variant.items()])}")


if __name__ == "__main__":
    with told_plainly():
        main()
