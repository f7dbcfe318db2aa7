"""Precision, recall and F1 of exact character spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from koner.labels.bio import Entity
from koner.labels.label_set import LabelSet


def precision_recall_f1(correct: int, predicted: int, gold: int) -> dict[str, float]:
    """Return precision, recall and F1 for counts of entities; 0 if the denominator is 0."""
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (predicted + gold) if predicted + gold else 0.0,
    }


def span_scores(pairs: Iterable[tuple[Iterable[Entity], Iterable[Entity]]]) -> dict[str, float]:
    """Return micro precision, recall and F1 of exact spans and types.

    Args:
        pairs: For each sentence the gold and the predicted entities, with spans in code points. An entity is correct if
            its start, end and type agree.
    """
    correct, predicted, gold = _count_by_type(pairs)
    return precision_recall_f1(correct.total(), predicted.total(), gold.total())


def span_scores_by_type(
    pairs: Iterable[tuple[Iterable[Entity], Iterable[Entity]]], labels: LabelSet
) -> dict[str, dict[str, float]]:
    """Return the scores of `span_scores` for each type, with its number of gold entities."""
    correct, predicted, gold = _count_by_type(pairs)
    return {t: {**precision_recall_f1(correct[t], predicted[t], gold[t]), "gold": gold[t]} for t in labels.types}


def _count_by_type(
    pairs: Iterable[tuple[Iterable[Entity], Iterable[Entity]]],
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Count the correct, the predicted and the gold entities of each type."""
    correct: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for pair in pairs:
        gold_entities, predicted_entities = map(set, pair)
        gold.update(e.label for e in gold_entities)
        predicted.update(e.label for e in predicted_entities)
        correct.update(e.label for e in gold_entities & predicted_entities)
    return correct, predicted, gold
