"""Whether an entity's score is the probability that the entity is right, and a temperature that makes it more so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from koner.alignment import Retagged
from koner.decoding import token_entities
from koner.predictions import Prediction
from koner.tagger import TEMPERATURE_KEY, Tagger

BINS = 10
RELIABILITY_COLUMNS = ("from", "to", "entities", "score", "right")
_RANGE = (0.25, 10.0)
_FEWEST = 30  # entities, under which a fit says nothing


def outcomes(predictions: Sequence[Prediction], calibrated: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The score of every entity found, and whether it is right (exact characters and type)."""
    scores: list[float] = []
    right: list[bool] = []
    for p in predictions:
        gold = set(p.gold)
        scores += [e.score for e in p.found] if calibrated else list(p.uncalibrated)
        right += [e in gold for e in p.predicted]
    return np.array(scores, float), np.array(right, bool)


def reliability(scores: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """A row for each bin of equal width that holds a score: its bounds, count, mean score and share right."""
    index = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        {
            "from": b / BINS,
            "to": (b + 1) / BINS,
            "entities": int((index == b).sum()),
            "score": round(float(scores[index == b].mean()), 6),
            "right": round(float(right[index == b].mean()), 6),
        }
        for b in range(BINS)
        if (index == b).any()
    ]


def calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error over ten bins of equal width (Guo et al. 2017); 0 without entities."""
    rows = reliability(scores, right)
    return sum(row["entities"] * abs(row["score"] - row["right"]) for row in rows) / len(scores) if rows else 0.0


def fit_temperature(tagger: Tagger, sentences: Sequence[Retagged]) -> float:
    """Fits the temperature under which entity scores are most likely, given which entities are right.

    Temperature scaling (Guo et al. 2017) on what is served: the log loss of the entity's score, not of its tokens,
    since an entity of likely tokens may still have a wrong boundary. The entities found don't change with it. Gives 1
    where there are too few to fit.
    """
    values: list[np.ndarray] = []
    right: list[bool] = []
    for logits, r in zip(tagger.logits([r.sentence.text for r in sentences]), sentences, strict=True):
        tags = [tagger.tags[i] for i in logits.values.argmax(axis=1)]
        for e, (start, end) in token_entities(tags, logits.encoded.offsets):
            values.append(logits.values[start:end])
            right.append(e in r.sentence.entities)
    if len(right) < _FEWEST:
        return 1.0
    rows, correct = np.concatenate(values), np.array(right)
    lengths = np.array([len(v) for v in values])
    starts = np.cumsum(lengths) - lengths

    def loss(log_temperature: float) -> float:
        likeliest = softmax(rows / np.exp(log_temperature), axis=1).max(axis=1)
        scores = np.clip(np.add.reduceat(likeliest, starts) / lengths, 1e-6, 1 - 1e-6)
        return float(-np.where(correct, np.log(scores), np.log1p(-scores)).mean())

    fitted = minimize_scalar(loss, bounds=tuple(np.log(_RANGE)), method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(fitted.x)), 4)


def store_temperature(folder: Path, temperature: float) -> None:
    """Writes the temperature into a model folder's configuration, where transformers leaves it alone."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config[TEMPERATURE_KEY] = temperature
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def calibration(predictions: Sequence[Prediction], temperature: float) -> dict[str, Any]:
    """The calibration figures of the evaluate stage: the error before and after, and whether the temperature helps."""
    before = calibration_error(*outcomes(predictions, calibrated=False))
    after = calibration_error(*outcomes(predictions))
    return {
        "temperature": temperature,
        "expected_calibration_error": {"before": before, "after": after},
        "lowered": after < before,
    }
