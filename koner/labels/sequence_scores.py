"""Precision, recall and F1 of tag sequences, as seqeval computes them.

A module of its own: seqeval imports scikit-learn, which takes a second, and the scores of spans need neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from koner.labels.bio import OUTSIDE, tag_type
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
