"""The protocol `span`: exact code points and type against the original annotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from koner.evaluation.bootstrap import Counts, macro_f1
from koner.evaluation.counts import count_entities
from koner.inference.predictions import Prediction
from koner.labels.label_set import LabelSet
from koner.labels.scores import span_scores, span_scores_by_type


def score_spans(predictions: Sequence[Prediction], labels: LabelSet) -> dict[str, Any]:
    """Return micro precision, recall and F1, `macro_f1` over the types that occur, and the scores `by_type`."""
    pairs = [(p.gold, p.predicted) for p in predictions]
    macro = macro_f1(count_entities(pairs, labels).sum(axis=0), present_only=True)
    return {**span_scores(pairs), "by_type": span_scores_by_type(pairs, labels), "macro_f1": float(macro)}


def span_counts(predictions: Sequence[Prediction], labels: LabelSet) -> Counts:
    """Count entities by exact start, end and type: (sentences, types, 3), types as in `labels`."""
    return count_entities(((p.gold, p.predicted) for p in predictions), labels)
