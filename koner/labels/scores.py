"""Precision, recall and F1 of tag sequences (seqeval) and of exact character spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from koner.labels.bio import OUTSIDE, Entity, tag_type
from koner.labels.label_set import LabelSet

Tags = Sequence[Sequence[str]]


def sequence_scores(gold: Tags, predicted: Tags) -> dict[str, float]:
    """Score tag sequences as seqeval does in its default mode.

    Args:
        gold: The gold tags of each sequence.
        predicted: The predicted tags of each sequence.

    Returns:
        Micro precision, recall and F1 of entities, and the accuracy of tags; all 0 if there is no tag.
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


def sequence_scores_by_type(gold: Tags, predicted: Tags, labels: LabelSet) -> dict[str, dict[str, float]]:
    """Score tag sequences by entity type; a type that does not occur scores 0.

    Returns:
        Precision, recall, F1 and the number of gold entities of each type.
    """
    if not any(gold):
        return {type_: {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 0} for type_ in labels.types}
    columns = precision_recall_fscore_support(gold, predicted, average=None, zero_division=0)
    # seqeval returns one row per type that occurs on either side, in sorted order.
    types = sorted({tag_type(tag) for tags in (*gold, *predicted) for tag in tags if tag != OUTSIDE})
    rows = dict(zip(types, zip(*(column.tolist() for column in columns), strict=True), strict=True))
    scores = {}
    for type_ in labels.types:
        precision, recall, f1, support = rows.get(type_, (0.0, 0.0, 0.0, 0))
        scores[type_] = {"precision": precision, "recall": recall, "f1": f1, "gold": support}
    return scores


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
