"""Precision, recall and F1 of tag sequences (seqeval) and of exact character spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from koner.labels import OUTSIDE, TYPES, Entity

Tags = Sequence[Sequence[str]]


def sequence_scores(gold: Tags, predicted: Tags) -> dict[str, float]:
    """Scores tag sequences as seqeval does by default: micro precision, recall and F1 of entities, and tag accuracy.

    Without any tag all of them are 0.
    """
    if not any(gold):
        return dict.fromkeys(("precision", "recall", "f1", "accuracy"), 0.0)
    precision, recall, f1, _ = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "accuracy": float(accuracy_score(gold, predicted)),
    }


def sequence_scores_by_type(gold: Tags, predicted: Tags) -> dict[str, dict[str, float]]:
    """The same by entity type, with the number of gold entities; a type that never occurs scores 0."""
    if not any(gold):
        return {type_: {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 0} for type_ in TYPES}
    columns = precision_recall_fscore_support(gold, predicted, average=None, zero_division=0)
    # seqeval's rows are the types that occur on either side, in sorted order.
    occurring = sorted({tag[2:] for tags in (*gold, *predicted) for tag in tags if tag != OUTSIDE})
    rows = dict(zip(occurring, zip(*(c.tolist() for c in columns), strict=True), strict=True))
    by_type = {}
    for type_ in TYPES:
        precision, recall, f1, support = rows.get(type_, (0.0, 0.0, 0.0, 0))
        by_type[type_] = {"precision": precision, "recall": recall, "f1": f1, "gold": support}
    return by_type


def ratios(correct: int, predicted: int, gold: int) -> dict[str, float]:
    """Precision, recall and F1 from counts; 0 where there is nothing to divide by."""
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (predicted + gold) if predicted + gold else 0.0,
    }


def span_scores(pairs: Iterable[tuple[Iterable[Entity], Iterable[Entity]]]) -> dict[str, Any]:
    """Scores pairs of gold and predicted entities by exact characters and type: micro, and the same by type.

    An entity counts as correct when its start, end and type all agree. Offsets are code points.
    """
    correct: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for pair in pairs:
        annotated, found = map(set, pair)
        gold.update(e.label for e in annotated)
        predicted.update(e.label for e in found)
        correct.update(e.label for e in annotated & found)
    return {
        **ratios(correct.total(), predicted.total(), gold.total()),
        "by_type": {t: {**ratios(correct[t], predicted[t], gold[t]), "gold": gold[t]} for t in TYPES},
    }
