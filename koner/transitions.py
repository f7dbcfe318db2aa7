"""The likeliest sequence of labels that keeps the rules of BIO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from koner.boundaries import may_follow
from koner.labels import OUTSIDE


class LegalSequences:
    """Viterbi decoding (Viterbi 1967) over a label set with hard transitions: what BIO forbids does not happen.

    A transition costs nothing or is impossible, so the best sequence is that of the highest sum of logits, and a
    text whose likeliest labels are legal by themselves is done with them.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._begins = np.array([may_follow(OUTSIDE, label) for label in labels])
        self._allowed = np.array([[may_follow(a, b) for b in labels] for a in labels])
        self._penalty = np.where(self._allowed, 0.0, -np.inf)

    def best(self, values: np.ndarray) -> np.ndarray:
        """The ids (tokens,) of the best legal sequence, for logits (tokens, labels)."""
        likeliest: np.ndarray = values.argmax(axis=1)
        if not len(values) or self._legal(likeliest):
            return likeliest
        score = np.where(self._begins, values[0].astype(np.float64), -np.inf)
        came_from = np.empty(values.shape, np.int64)
        for i in range(1, len(values)):
            reached = score[:, None] + self._penalty
            came_from[i] = reached.argmax(axis=0)
            score = reached.max(axis=0) + values[i]
        path = np.empty(len(values), np.int64)
        path[-1] = score.argmax()
        for i in range(len(values) - 1, 0, -1):
            path[i - 1] = came_from[i, path[i]]
        return path

    def _legal(self, path: np.ndarray) -> bool:
        return bool(self._begins[path[0]] and self._allowed[path[:-1], path[1:]].all())
