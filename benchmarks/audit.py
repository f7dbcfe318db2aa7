"""Measure whether the audit finds annotation errors that were planted in a corpus, and what their repair is worth.

    python -m benchmarks.audit --source FOLDER 'audit epochs=2 augment=0'

Plants errors in a share of the entities of the training part: entities are dropped, moved by a particle, given another
type, and invented. Trains a model for each fold with the parameters of params.yaml and the settings of the variant, and
ranks the candidates in several orders:

  all at random         annotated entities and candidates in random order
  candidates at random  the places where model and annotation differ, in random order
  model loss            annotated entities and candidates by the mean loss of the annotated tags, the highest first
  suggestion's score    candidates by the score of the predicted entity
  cleanlab, lowest      candidates by the lowest label quality of the tokens whose tags differ
  cleanlab, margin      candidates by their mean label quality, as the normalized margin
  cleanlab, selected    first those that cleanlab's confident learning counts as errors, each by mean label quality
  koner audit           candidates by their mean label quality, as the audit does

Prints the precision of the first 100, the recall of the planted errors among as many candidates as there are planted
errors, twice and five times as many, and the recall of each kind; and the same of the checks without a model. A planted
error is found by a candidate whose annotated entity is the damaged one, or that suggests an entity in the place of a
dropped one. Errors that the corpus had before count as wrong.

Repairs those planted errors that the first candidates found, and prints the span F1 of the annotation against the
undamaged one. --repair also trains models on the undamaged, the damaged and the repaired training part, and prints
their span F1 on the validation part.

--first N prints the first N candidates of the undamaged corpus instead, to be read by a person. --last N measures on
the last N sentences of the training part only. --folder keeps models and predictions: what exists is not trained again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from transformers import AutoTokenizer

from benchmarks.audit_orders import ORDERS, Item, PlantedIndex, make_items
from benchmarks.damage import KINDS, Planted, damage, repair
from benchmarks.reporting import describe_machine, format_table, make_parser, read_settings
from koner.audit.checks import run_checks
from koner.audit.cross_validation import train_without
from koner.audit.folds import assign_folds
from koner.audit.out_of_sample import OutOfSample, predict_out_of_sample, read_out_of_sample, write_out_of_sample
from koner.audit.ranking import find_candidates
from koner.audit.tasks import describe
from koner.corpus.parts import TRAIN, VALIDATION
from koner.corpus.sentences import Sentence
from koner.corpus.sources import read_checked, read_source
from koner.encoder.base_model import prepare_base_model
from koner.errors import exit_on_error
from koner.inference.predictions import predict
from koner.inference.tagger import Tagger
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.labels.scores import span_scores
from koner.params import PARAMS_FILE, Params
from koner.tokens.alignment import AlignedSentence, align
from koner.validation import read_yaml, validate

FOLDS_SEED = 42
MULTIPLES = (1, 2, 5)  # of the number of planted errors
TRAINED = ("damaged", "repaired 1", "repaired 2")


def align_to_base(sentences: Sequence[Sentence], params: Params, folder: Path) -> list[AlignedSentence]:
    """Prepare the base model in a folder, unless it exists, and align sentences to its tokens."""
    if not (folder / "base").is_dir():
        prepare_base_model(params, sentences, folder / "base", labels=KLUE)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base", local_files_only=True)
    return align(sentences, tokenizer, params.max_length, params.stride, KLUE)


def cross_validate(sentences: Sequence[Sentence], params: Params, folds: int, folder: Path) -> list[OutOfSample]:
    """Return the out-of-sample predictions for all sentences, in their order."""
    aligned = align_to_base(sentences, params, folder)
    fold_of = assign_folds(sentences, KLUE, range(1, folds + 1), FOLDS_SEED).tolist()
    predictions: dict[str, OutOfSample] = {}
    for fold in range(1, folds + 1):
        path = folder / f"{fold}.parquet"
        if not path.exists():
            others = [a for a, f in zip(aligned, fold_of, strict=True) if f != fold]
            held_out = [a for a, f in zip(aligned, fold_of, strict=True) if f == fold]
            model = folder / f"model-{fold}"
            train_without(params, folder / "base", KLUE, others, model, folder / f"checkpoints-{fold}", "run")
            write_out_of_sample(path, predict_out_of_sample(Tagger.load(model, "cpu"), held_out, KLUE))
            shutil.rmtree(model)
            print(f"{folder.name}: fold {fold} of {folds}", flush=True)
        predictions |= {prediction.id: prediction for prediction in read_out_of_sample(path)}
    return [predictions[sentence.id] for sentence in sentences]


def print_orders(predictions: Sequence[OutOfSample], index: PlantedIndex) -> None:
    """Print the precision and the recall of each order."""
    items = make_items(predictions)
    count = len(index)
    rows, by_kind = [], []
    for name, order in ORDERS.items():
        found = index.find(order(items))
        first = found[:100]
        recall = [f"{index.recall(found[: n * count]):.3f}" for n in MULTIPLES]
        rows.append([name, len(found), f"{sum(map(bool, first)) / len(first):.2f}", *recall])
        by_kind.append([name, *(f"{index.recall(found[:count], kind):.3f}" for kind in KINDS)])
    candidates = sum(item.is_candidate for item in items)
    scores = span_scores((p.gold, [Entity(e.start, e.end, e.label) for e in p.predicted]) for p in predictions)
    print(f"\n{len(predictions)} sentences, {count} planted errors, {candidates} candidates; span F1 of the folds'")
    print(f"predictions against the damaged annotation: {scores['f1']:.4f}\n")
    recalls = [f"recall, {n} x {count}" for n in MULTIPLES]
    print(format_table(["order", "places", "precision of 100", *recalls], rows))
    print(f"\nRecall of each kind among the first {count}:\n")
    print(format_table(["order", *KINDS], by_kind))


def print_checks(sentences: Sequence[Sentence], index: PlantedIndex) -> None:
    """Print how many candidates each check without a model has, and how many of them are planted errors."""
    candidates = run_checks(sentences)
    rows = []
    for check in dict.fromkeys(candidate.check for candidate in candidates):
        found = index.find(Item(c.id, c.annotated, c.suggested, True) for c in candidates if c.check == check)
        precision = sum(map(bool, found)) / len(found)
        rows.append([check, len(found), f"{precision:.2f}", *(f"{index.recall(found, k):.3f}" for k in (None, *KINDS))])
    print("\nChecks without a model:\n")
    print(format_table(["check", "candidates", "precision", "recall", *(f"of {kind}" for kind in KINDS)], rows))


def measure_f1(
    name: str, sentences: Sequence[Sentence], validation: Sequence[Sentence], params: Params, folder: Path
) -> float:
    """Train on sentences, unless the model exists, and return span F1 on the validation part."""
    folder /= name
    aligned = align_to_base(sentences, params, folder)
    if not (folder / "model").is_dir():
        train_without(params, folder / "base", KLUE, aligned, folder / "model", folder / "checkpoints", "run")
    tagger = Tagger.load(folder / "model", "cpu")
    tested = align(validation, tagger.tokenizer, tagger.max_length, tagger.stride, KLUE)
    return span_scores((p.gold, p.predicted) for p in predict(tagger, tested))["f1"]


def repair_first(sentences: Sequence[Sentence], found: Sequence[Planted | None], count: int) -> list[Sentence]:
    """Return damaged sentences in which what the first candidates found is repaired."""
    return repair(sentences, [error for error in dict.fromkeys(found[:count]) if error])


def print_repairs(original: Sequence[Sentence], variants: dict[str, Sequence[Sentence]]) -> None:
    """Print how far the annotation of each variant is from the original one."""
    rows = []
    for name, sentences in variants.items():
        pairs = list(zip((s.entities for s in original), (s.entities for s in sentences), strict=True))
        damaged = sum(set(before) != set(after) for before, after in pairs)
        rows.append([name, damaged, f"{span_scores(pairs)['f1']:.4f}"])
    print("\nAfter the planted errors among the first candidates are repaired:\n")
    print(format_table(["training part", "damaged sentences", "span F1 of its annotation"], rows))


def print_trained(
    variants: dict[str, Sequence[Sentence]], validation: Sequence[Sentence], params: Params, folder: Path, seeds: int
) -> None:
    """Print span F1 on the validation part after training on each variant."""
    rows = []
    for name, sentences in variants.items():
        f1 = []
        for seed in range(params.seed, params.seed + seeds):
            with_seed = params.model_copy(update={"seed": seed})
            f1.append(measure_f1(f"{name} {seed}", sentences, validation, with_seed, folder))
            print(f"{name}, seed {seed}: {f1[-1]:.4f}", flush=True)
        rows.append([name, " ".join(f"{value:.4f}" for value in f1), f"{mean(f1):.4f}"])
    print(f"\n{format_table(['training part', 'span F1 by seed', 'mean'], rows)}")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("variant", nargs="?", default="audit", help="a name and parameters: 'NAME KEY=VALUE ...'")
    parser.add_argument("--source", required=True, help="as the parameter")
    parser.add_argument("--folds", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--share", type=float, default=0.05, help="of the entities that are damaged (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the damage (default: %(default)s)")
    parser.add_argument("--last", type=int, default=0, help="only so many sentences from the end; 0: all")
    parser.add_argument("--repair", type=int, default=0, metavar="SEEDS", help="train with so many seeds on each part")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="print candidates of the undamaged corpus")
    parser.add_argument("--folder", type=Path, default=Path("models/audit"), help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    changes = {"source": arguments.source, **read_settings(arguments.variant)}
    params = validate({**read_yaml(PARAMS_FILE), **changes}, PARAMS_FILE, Params)
    parts = read_checked(read_source(params.source, params.source_config, params.source_revision))
    print(describe_machine(), flush=True)
    if arguments.first:
        predictions = cross_validate(parts[TRAIN], params, arguments.folds, arguments.folder / "undamaged")
        for rank, candidate in enumerate(find_candidates(predictions[-arguments.last :])[: arguments.first], start=1):
            print(f"{rank}\t{candidate.score:.4f}\t{candidate.id}\t{describe(candidate)}\t{candidate.text}")
        return
    damaged, planted = damage(parts[TRAIN], KLUE, arguments.share, arguments.seed)
    folder = arguments.folder / f"damaged-{arguments.seed}"
    predictions = cross_validate(damaged, params, arguments.folds, folder)
    first = len(damaged) - (arguments.last or len(damaged))
    index = PlantedIndex([e for e in planted if e.sentence >= first], parts[TRAIN])
    print_orders(predictions[first:], index)
    print_checks(damaged[first:], index)
    items, of_all = make_items(predictions), PlantedIndex(planted, parts[TRAIN])
    variants = {"damaged": damaged}
    for name, order in (("repaired", "koner audit"), ("repaired by model loss", "model loss")):
        found = of_all.find(ORDERS[order](items))
        variants |= {f"{name} {n}": repair_first(damaged, found, n * len(planted)) for n in MULTIPLES}
    print_repairs(parts[TRAIN], variants)
    if arguments.repair:
        trained = {"undamaged": parts[TRAIN], **{name: variants[name] for name in TRAINED}}
        print_trained(trained, parts[VALIDATION], params, folder, arguments.repair)


if __name__ == "__main__":
    with exit_on_error():
        main()
