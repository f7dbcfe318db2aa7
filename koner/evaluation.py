"""Scoring predictions: on tokens as the published recipe counts, and on exact characters against the annotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from seqeval.metrics import classification_report
from sklearn.metrics import confusion_matrix

from koner.labels import OUTSIDE, TAGS, TYPES
from koner.predictions import Prediction
from koner.scoring import sequence_scores, sequence_scores_by_type, span_scores


def evaluate(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The figures of `metrics/evaluate.json`: per protocol, overall and by type, with the counts behind them."""
    return {
        "sentences": len(predictions),
        "entities": sum(len(p.gold) for p in predictions),
        "wordpiece": wordpiece_scores(predictions),
        "span": span_scores((p.gold, p.predicted) for p in predictions),
    }


def wordpiece_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Scores tokens as the published recipe does (seqeval, micro), and the same by type."""
    gold, predicted = _token_tags(predictions)
    return {**sequence_scores(gold, predicted), "by_type": sequence_scores_by_type(gold, predicted)}


def _token_tags(predictions: Sequence[Prediction]) -> tuple[list[list[str]], list[list[str]]]:
    return [list(p.gold_tags) for p in predictions], [list(p.predicted_tags) for p in predictions]


def report(predictions: Sequence[Prediction]) -> str:
    """seqeval's classification report over tokens, as text."""
    return str(classification_report(*_token_tags(predictions), digits=4, zero_division=0))


def tag_pairs(predictions: Sequence[Prediction], types_only: bool = False) -> list[tuple[str, str]]:
    """The (actual, predicted) tag of every token, or their types alone."""
    pairs = [pair for p in predictions for pair in zip(p.gold_tags, p.predicted_tags, strict=True)]
    if types_only:
        return [(a[2:] or OUTSIDE, b[2:] or OUTSIDE) for a, b in pairs]
    return pairs


def confusion(pairs: Sequence[tuple[str, str]], types_only: bool = False) -> tuple[np.ndarray, list[str]]:
    """The confusion matrix of `tag_pairs`, rows actual and columns predicted, with its labels in order."""
    labels = [*TYPES, OUTSIDE] if types_only else list(TAGS)
    actual, predicted = zip(*pairs, strict=True)
    return confusion_matrix(actual, predicted, labels=labels), labels
