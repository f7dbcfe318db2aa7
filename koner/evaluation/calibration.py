"""Calibration of entity scores: reliability by bin and the expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from koner.inference.predictions import Prediction

BINS = 10
RELIABILITY_COLUMNS = ("from", "to", "entities", "score", "right")


def score_outcomes(predictions: Sequence[Prediction], calibrated: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of all predicted entities, and whether each entity is correct.

    Args:
        predictions: The predictions.
        calibrated: Whether to return the scores at the fitted temperature, or else at temperature 1.

    Returns:
        Two arrays (entities,): float scores, and booleans (exact characters and type).
    """
    scores: list[float] = []
    correct: list[bool] = []
    for p in predictions:
        gold = set(p.gold)
        scores += [e.score for e in p.scored_entities] if calibrated else list(p.uncalibrated)
        correct += [e in gold for e in p.predicted]
    return np.array(scores, float), np.array(correct, bool)


def reliability(scores: np.ndarray, correct: np.ndarray) -> list[dict[str, Any]]:
    """Return a row for each non-empty bin of equal width: bounds, entities, mean score, and share of correct ones."""
    index = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        {
            "from": b / BINS,
            "to": (b + 1) / BINS,
            "entities": int((index == b).sum()),
            "score": round(float(scores[index == b].mean()), 6),
            "right": round(float(correct[index == b].mean()), 6),
        }
        for b in range(BINS)
        if (index == b).any()
    ]


def calibration_error(scores: np.ndarray, correct: np.ndarray) -> float:
    """Return the expected calibration error over ten bins of equal width (Guo et al. 2017); 0 without entities."""
    rows = reliability(scores, correct)
    return sum(row["entities"] * abs(row["score"] - row["right"]) for row in rows) / len(scores) if rows else 0.0


def calibration(predictions: Sequence[Prediction], temperature: float) -> dict[str, Any]:
    """Return the calibration figures of the stage evaluate: the error before and after temperature scaling."""
    before = calibration_error(*score_outcomes(predictions, calibrated=False))
    after = calibration_error(*score_outcomes(predictions))
    return {
        "temperature": temperature,
        "expected_calibration_error": {"before": before, "after": after},
        "lowered": after < before,
    }
