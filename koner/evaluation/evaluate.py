"""Evaluation of predictions by all protocols, with confidence intervals and calibration."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from koner.errors import KonerError
from koner.evaluation import protocols
from koner.evaluation.bootstrap import interval
from koner.evaluation.calibration import calibration
from koner.inference.predictions import Prediction
from koner.labels.label_set import LabelSet
from koner.tokens.alignment import AlignedSentence

RESAMPLES = 1_000
TRAIN_SAMPLE = 1_000  # sentences


def evaluate(
    predictions: Sequence[Prediction], labels: LabelSet, temperature: float, seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Return the figures of `metrics/evaluate.json`.

    Args:
        predictions: The predictions for the test part.
        labels: The types of the model.
        temperature: The temperature of the model's scores.
        seed: The seed of the bootstrap.
        resamples: The number of resamples of the bootstrap.

    Returns:
        The scores of each protocol, overall and by type; the 95% confidence intervals; the calibration.

    Raises:
        KonerError: If there are no predictions.
    """
    if not predictions:
        raise KonerError("the test part is empty: there is nothing to evaluate")
    return {
        "sentences": len(predictions),
        "entities": sum(len(p.gold) for p in predictions),
        **{protocol.name: protocol.scores(predictions, labels) for protocol in protocols.PROTOCOLS},
        "intervals": intervals(predictions, labels, seed, resamples),
        "calibration": calibration(predictions, temperature),
    }


def intervals(
    predictions: Sequence[Prediction], labels: LabelSet, seed: int, resamples: int = RESAMPLES
) -> dict[str, dict[str, float]]:
    """Return the 95% bootstrap confidence interval, by sentence, of each figure that has one."""
    bounds = {}
    for protocol in protocols.PROTOCOLS:
        counts = protocol.counts(predictions, labels)
        for figure in protocol.figures:
            if figure.statistic and figure.counts:
                estimate = interval(counts[figure.counts], figure.statistic, resamples, seed=seed)
                bounds[protocol.path(figure)] = {"low": estimate.low, "high": estimate.high}
    return bounds


def draw_sample(
    sentences: Iterable[AlignedSentence], count: int, seed: int, size: int = TRAIN_SAMPLE
) -> list[AlignedSentence]:
    """Draw `size` of `count` streamed sentences, in random order; all of them, in their order, if they are fewer."""
    if count <= size:
        return list(sentences)
    drawn = random.Random(seed).sample(range(count), size)  # noqa: S311 (not for cryptography)
    wanted = set(drawn)
    sample = {i: sentence for i, sentence in enumerate(sentences) if i in wanted}
    return [sample[i] for i in drawn]
