"""Scoring predictions: on tokens as the published recipe counts, and on exact characters against the annotation."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from seqeval.metrics import classification_report
from sklearn.metrics import confusion_matrix

from koner.alignment import Retagged
from koner.bootstrap import interval, macro_f1, micro_f1, span_counts, wordpiece_counts
from koner.calibration import calibration
from koner.errors import KonerError
from koner.klue_protocol import char_f1, entity_f1, klue_counts, klue_scores
from koner.labels import OUTSIDE, TAGS, TYPES
from koner.predictions import Prediction
from koner.scoring import sequence_scores, sequence_scores_by_type, span_scores

RESAMPLES = 1_000
TRAIN_SAMPLE = 1_000  # sentences


def evaluate(
    predictions: Sequence[Prediction], temperature: float, seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """The figures of `metrics/evaluate.json`: each protocol's, overall and by type, their intervals, and calibration.

    Raises `KonerError` where there is nothing to evaluate.
    """
    if not predictions:
        raise KonerError("the test part is empty: there is nothing to evaluate")
    spans = span_scores((p.gold, p.predicted) for p in predictions)
    macro = macro_f1(span_counts(predictions).sum(axis=0), present_only=True)
    return {
        "sentences": len(predictions),
        "entities": sum(len(p.gold) for p in predictions),
        "wordpiece": wordpiece_scores(predictions),
        "klue": klue_scores(predictions),
        "span": {**spans, "macro_f1": float(macro)},
        "intervals": intervals(predictions, seed, resamples),
        "calibration": calibration(predictions, temperature),
    }


def intervals(predictions: Sequence[Prediction], seed: int, resamples: int = RESAMPLES) -> dict[str, dict[str, float]]:
    """The 95 % bootstrap interval, by sentence, of each protocol's headline figure."""
    spans, klue = span_counts(predictions), klue_counts(predictions)
    found = {
        "wordpiece.f1": interval(wordpiece_counts(predictions), micro_f1, resamples, seed=seed),
        "klue.entity_f1": interval(klue.entities, entity_f1, resamples, seed=seed),
        "klue.char_f1": interval(klue.characters, char_f1, resamples, seed=seed),
        "span.f1": interval(spans, micro_f1, resamples, seed=seed),
        "span.macro_f1": interval(spans, partial(macro_f1, present_only=True), resamples, seed=seed),
    }
    return {name: {"low": i.low, "high": i.high} for name, i in found.items()}


def sampled(sentences: Iterable[Retagged], count: int, seed: int, most: int = TRAIN_SAMPLE) -> list[Retagged]:
    """Draws `most` of `count` sentences that pass by, in random order; all of them, in theirs, where they are fewer."""
    if count <= most:
        return list(sentences)
    drawn = random.Random(seed).sample(range(count), most)  # noqa: S311 (no secret)
    wanted = set(drawn)
    kept = {i: sentence for i, sentence in enumerate(sentences) if i in wanted}
    return [kept[i] for i in drawn]


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
