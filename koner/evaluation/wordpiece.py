"""The protocol `wordpiece`: the tags of tokens, as the published recipe scores them.

seqeval and scikit-learn are imported on use: they take a second, and a comparison or a model card needs no scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from koner.evaluation.bootstrap import Counts
from koner.evaluation.counts import count_entities
from koner.inference.predictions import Prediction
from koner.labels.bio import OUTSIDE, bio_to_entities, tag_type
from koner.labels.label_set import LabelSet


def score_tokens(predictions: Sequence[Prediction], labels: LabelSet) -> dict[str, Any]:
    """Return micro precision, recall, F1 and accuracy over tokens (seqeval), and the scores `by_type`."""
    from koner.labels.sequence_scores import sequence_scores, sequence_scores_by_type

    gold, predicted = _token_tags(predictions)
    return {**sequence_scores(gold, predicted), "by_type": sequence_scores_by_type(gold, predicted, labels)}


def wordpiece_counts(predictions: Sequence[Prediction], labels: LabelSet) -> Counts:
    """Count the entities of token tags, as seqeval reads them by default: (sentences, types, 3), as in `labels`."""
    pairs = ((bio_to_entities(p.gold_tags), bio_to_entities(p.predicted_tags)) for p in predictions)
    return count_entities(pairs, labels)


def token_report(predictions: Sequence[Prediction]) -> str:
    """Return seqeval's classification report over tokens."""
    from seqeval.metrics import classification_report

    return str(classification_report(*_token_tags(predictions), digits=4, zero_division=0))


def tag_pairs(predictions: Sequence[Prediction], types_only: bool = False) -> list[tuple[str, str]]:
    """Return the (actual, predicted) tag of every token, or only their types."""
    pairs = [pair for p in predictions for pair in zip(p.gold_tags, p.predicted_tags, strict=True)]
    if types_only:
        return [(tag_type(actual) or OUTSIDE, tag_type(predicted) or OUTSIDE) for actual, predicted in pairs]
    return pairs


def confusion(
    pairs: Sequence[tuple[str, str]], labels: LabelSet, types_only: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Return the confusion matrix of `tag_pairs`, rows actual and columns predicted, and its labels in order."""
    from sklearn.metrics import confusion_matrix

    names = [*labels.types, OUTSIDE] if types_only else list(labels.tags)
    actual, predicted = zip(*pairs, strict=True)
    return confusion_matrix(actual, predicted, labels=names), names


def _token_tags(predictions: Sequence[Prediction]) -> tuple[list[list[str]], list[list[str]]]:
    return [list(p.gold_tags) for p in predictions], [list(p.predicted_tags) for p in predictions]
