"""Whether an entity's score is the probability that the entity is right, and a temperature that makes it more so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from koner.alignment import Retagged
from koner.decoding import token_entities
from koner.labels import Entity
from koner.predictions import Prediction
from koner.scoring import span_scores
from koner.tagger import Tagger

BINS = 10
RELIABILITY_COLUMNS = ("from", "to", "entities", "score", "right")
_RANGE = (0.25, 10.0)
_FEWEST = 30  # entities, under which a fit says nothing
_BIASES = np.arange(-3.0, 3.01, 0.25)


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
    paths: list[np.ndarray] = []
    right: list[bool] = []
    for logits, r in zip(tagger.logits([r.sentence.text for r in sentences]), sentences, strict=True):
        found, path = tagger.choose(logits.values)
        labels = [tagger.token_labels[i] for i in path]
        for e, (start, end) in token_entities(labels, logits.encoded.offsets):
            values.append(found[start:end])
            paths.append(path[start:end])
            right.append(e in r.sentence.entities)
    if len(right) < _FEWEST:
        return 1.0
    rows, correct = np.concatenate(values), np.array(right)
    given = np.concatenate(paths)[:, None]
    lengths = np.array([len(v) for v in values])
    starts = np.cumsum(lengths) - lengths

    def loss(log_temperature: float) -> float:
        probabilities = np.take_along_axis(softmax(rows / np.exp(log_temperature), axis=1), given, axis=1)[:, 0]
        scores = np.clip(np.add.reduceat(probabilities, starts) / lengths, 1e-6, 1 - 1e-6)
        return float(-np.where(correct, np.log(scores), np.log1p(-scores)).mean())

    fitted = minimize_scalar(loss, bounds=tuple(np.log(_RANGE)), method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(fitted.x)), 4)


def fit_outside_bias(tagger: Tagger, sentences: Sequence[Retagged]) -> float:
    """The bias on the logit of O, from -3 to 3, under which span F1 is best; of equals the one nearest 0.

    Training weighs tokens, of which most are outside; F1 weighs entities. Leaves the tagger as it was.
    """
    settings = tagger.settings
    logits = tagger.logits([r.sentence.text for r in sentences])
    f1: dict[float, float] = {}
    for bias in map(float, _BIASES):
        tagger.settings = replace(settings, outside_bias=bias)
        found = ([Entity(e.start, e.end, e.label) for e in tagger.decode(one).entities] for one in logits)
        f1[bias] = span_scores((r.sentence.entities, e) for r, e in zip(sentences, found, strict=True))["f1"]
    tagger.settings = settings
    return max(f1, key=lambda bias: (f1[bias], -abs(bias)))


def calibration(predictions: Sequence[Prediction], temperature: float) -> dict[str, Any]:
    """The calibration figures of the evaluate stage: the error before and after, and whether the temperature helps."""
    before = calibration_error(*outcomes(predictions, calibrated=False))
    after = calibration_error(*outcomes(predictions))
    return {
        "temperature": temperature,
        "expected_calibration_error": {"before": before, "after": after},
        "lowered": after < before,
    }
