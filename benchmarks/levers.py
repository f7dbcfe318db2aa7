"""Measure the effect of techniques on span F1: an ablation study.

    python -m benchmarks.levers --source FOLDER --tokenizer FOLDER plain 'legal legal=true' ...

A variant is a name and the parameters in which it differs from the plain recipe (a small model from random weights, no
augmentation, the most likely label of each token). The first variant is the one with which the others are compared.
Each is trained with every seed on the training part of the source, of which a tenth becomes development, and evaluated
on its validation part.

Prints span F1 by seed, the mean difference from the first variant, and two tests of it: a paired bootstrap by sentence
over the counts of all seeds (would these models differ on other sentences?) and a paired t-test over the seeds (would
other models differ on these sentences?). --folder keeps the models: a model that exists is not trained again, and
variants that differ only in decoding (`legal`) share one.
"""

import argparse
import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import ttest_rel
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.reporting import describe_machine, format_table, make_parser, read_settings
from koner.corpus.parts import DEVELOPMENT, TRAIN, VALIDATION
from koner.corpus.sentences import to_row
from koner.corpus.sources import read_checked, read_source
from koner.corpus.splitting import split, summarize
from koner.encoder.base_model import prepare_base_model
from koner.errors import exit_on_error
from koner.evaluation.bootstrap import Counts, micro_f1, paired
from koner.evaluation.span import span_counts
from koner.inference.decoding import DecodingSettings
from koner.inference.predictions import predict
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from koner.params import OWN, PARAMS_FILE, SAMPLE, SCRATCH, Params
from koner.resources import NAMES
from koner.tokens.alignment import AlignedSentence, align
from koner.training.augmentation import augment_sentences, read_names
from koner.training.dataset import WindowDataset
from koner.training.fit import train
from koner.validation import read_yaml, validate

PLAIN = {
    "base_model": SCRATCH,
    "base_model_revision": None,
    "isolate_unspelt": False,
    "drop_crossing": False,
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
    "base_share": 0.0,
    "legal": False,
}
DECODING_PARAMS = ("legal",)
SPLIT_SEED = 42  # the same parts for every seed
COMPARISON = ["variant", "span F1 by seed", "mean ± sd", "difference", "95% interval", "p, sentences", "p, seeds"]


def make_params(variant: str, seed: int, arguments: argparse.Namespace) -> Params:
    """Return the parameters of a variant: those of params.yaml, then of the plain recipe, then its own."""
    options = {"source": arguments.source, "tokenizer": arguments.tokenizer, "seed": seed}
    return validate({**read_yaml(PARAMS_FILE), **PLAIN, **options, **read_settings(variant)}, PARAMS_FILE, Params)


def measure(params: Params, folder: Path) -> Counts:
    """Train a model unless it exists, and return its span counts (sentences, 1, 3) on the validation part."""
    parts = read_checked(read_source(params.source, params.source_config, params.source_revision))
    values = {key: value for key, value in params.model_dump().items() if key not in DECODING_PARAMS}
    folder /= hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    if not (folder / "base").is_dir():
        prepare_base_model(params, parts[TRAIN], folder / "base", labels=KLUE)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base", local_files_only=True)
    aligned = {
        part: align(parts[part], tokenizer, params.max_length, params.stride, KLUE) for part in (TRAIN, VALIDATION)
    }
    if not (folder / "model").is_dir():
        split_parts = split_sentences(aligned, params)
        training = split_parts[TRAIN] + augment(split_parts[TRAIN], tokenizer, params)
        (folder / "params.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
        train(
            params,
            folder / "base",
            KLUE,
            WindowDataset(training),
            WindowDataset(split_parts[DEVELOPMENT]),
            folder / "model",
            folder / "steps",
            "run",
        )
    tagger = Tagger.load(folder / "model", "cpu")
    tagger.settings = DecodingSettings(legal=params.legal)
    return span_counts(predict(tagger, aligned[VALIDATION]), KLUE)


def split_sentences(aligned: dict[str, list[AlignedSentence]], params: Params) -> dict[str, list[AlignedSentence]]:
    """Split the published parts into train, development and test, as the stage `split` does."""
    summaries = [
        summarize([pa.RecordBatch.from_pylist([to_row(a.sentence) for a in aligned[part]])], KLUE)
        for part in (TRAIN, VALIDATION)
    ]
    selections, _ = split(*summaries, params.protocol, params.development_share, SPLIT_SEED)
    return {
        part: [
            a for a, is_selected in zip(aligned[selection.published_part], selection.mask, strict=True) if is_selected
        ]
        for part, selection in selections.items()
    }


def augment(
    aligned: Sequence[AlignedSentence], tokenizer: PreTrainedTokenizerBase, params: Params
) -> list[AlignedSentence]:
    """Return augmented copies of sentences."""
    sentences = [a.sentence for a in aligned]
    copies = augment_sentences(sentences, read_names(NAMES, sentences), params.augment, params.seed)
    return align(list(copies), tokenizer, params.max_length, params.stride, KLUE)


def make_row(variant: str, counts: Sequence[Counts], first_counts: Sequence[Counts]) -> list[str]:
    """Return a row of the table: F1 by seed, and the difference from the first variant."""
    f1, first_f1 = ([float(micro_f1(c.sum(axis=0))) for c in seed_counts] for seed_counts in (counts, first_counts))
    mean = statistics.mean(f1)
    deviation = statistics.stdev(f1) if len(f1) > 1 else 0.0
    row = [variant, " ".join(f"{figure:.4f}" for figure in f1), f"{mean:.4f} ± {deviation:.4f}"]
    if counts is first_counts:
        return [*row, "", "", "", ""]
    test = paired(np.sum(first_counts, axis=0), np.sum(counts, axis=0), micro_f1)
    seeds_p_value = f"{ttest_rel(f1, first_f1).pvalue:.4f}" if len(f1) > 1 else ""
    interval = f"{test.low:+.4f} to {test.high:+.4f}"
    return [*row, f"{mean - statistics.mean(first_f1):+.4f}", interval, f"{test.p_value:.4f}", seeds_p_value]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="a name and parameters: 'NAME KEY=VALUE ...'")
    parser.add_argument("--source", default=SAMPLE, help="as the parameter (default: %(default)s)")
    parser.add_argument("--tokenizer", default=OWN, help="as the parameter (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 1 (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path("models/levers"), help="folder of the models (default: %(default)s)"
    )
    arguments = parser.parse_args()
    print(f"{describe_machine()}\n", flush=True)
    counts_by_variant: dict[str, list[Counts]] = {variant: [] for variant in arguments.variants}
    for seed in range(1, arguments.seeds + 1):
        for variant in arguments.variants:
            counts = measure(make_params(variant, seed, arguments), arguments.folder)
            counts_by_variant[variant].append(counts)
            print(f"seed {seed}, {variant}: {float(micro_f1(counts.sum(axis=0))):.4f}", flush=True)
    first_counts = counts_by_variant[arguments.variants[0]]
    rows = [make_row(variant, counts, first_counts) for variant, counts in counts_by_variant.items()]
    print(f"\n{format_table(COMPARISON, rows)}")


if __name__ == "__main__":
    with exit_on_error():
        main()
