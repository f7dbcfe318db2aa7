"""Constrained decoding: the most likely sequence of labels that is valid BIO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from koner.labels.bio import OUTSIDE, is_valid_transition, tag_type

# Sequences; with more, their scores would leave the cache of a processor.
_MOST_TOGETHER = 64


class ConstrainedDecoder:
    """Viterbi decoding (Viterbi 1967) over a label set whose invalid transitions are forbidden.

    A valid transition costs nothing, so the best path is the valid sequence with the highest sum of logits. If the
    most likely labels of the tokens form a valid sequence, that sequence is the best path.

    In BIO, O and B may follow any label, and the I of a type only its own B and I. So the best predecessor is the same
    for all O and B, and one of two for each I: a step takes time linear in the labels, not quadratic.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        ids = {label: i for i, label in enumerate(labels)}
        self._may_start = np.array([is_valid_transition(OUTSIDE, label) for label in labels])
        self._inside = np.flatnonzero(~self._may_start)
        # The two predecessors of each I, in the order of their ids: of equally good ones, the first counts.
        pairs = [sorted((ids[f"B-{tag_type(labels[i])}"], i)) for i in self._inside.tolist()]
        self._first, self._second = np.array(pairs, np.intp).reshape(-1, 2).T
        # By label id: the type of a label, and for O a number that no type has.
        types = {label: i for i, label in enumerate(dict.fromkeys(map(tag_type, labels)))}
        self._types = np.array([types[tag_type(label)] for label in labels])

    def decode(self, logits: np.ndarray) -> np.ndarray:
        """Return the label ids (tokens,) of the best path, for logits (tokens, labels)."""
        return self.decode_all([logits])[0]

    def decode_all(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids (tokens,) of the best path of each sequence, for its logits (tokens, labels).

        The sequences whose most likely labels are not valid are decoded together.
        """
        paths: list[np.ndarray] = [logits.argmax(axis=1) for logits in sequences]
        # The longest first, so that those which go on are always the first rows.
        invalid = sorted(
            (i for i, path in enumerate(paths) if not self._is_valid_path(path)), key=lambda i: -len(paths[i])
        )
        for start in range(0, len(invalid), _MOST_TOGETHER):
            chosen = invalid[start : start + _MOST_TOGETHER]
            for i, path in zip(chosen, self._viterbi([sequences[i] for i in chosen]), strict=True):
                paths[i] = path
        return paths

    def _is_valid_path(self, path: np.ndarray) -> bool:
        if not len(path):
            return True
        may_follow = self._may_start[path]
        return bool(may_follow[0] and (may_follow[1:] | (self._types[path[1:]] == self._types[path[:-1]])).all())

    def _viterbi(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the best path of each sequence; they are sorted by length, the longest first."""
        lengths = np.array([len(logits) for logits in sequences])
        steps, count = int(lengths[0]), len(sequences)
        scores = np.where(self._may_start, np.stack([logits[0] for logits in sequences]).astype(np.float64), -np.inf)
        best = np.empty((steps, count), np.intp)
        takes_second = np.empty((steps, count, len(self._inside)), bool)
        for step in range(1, steps):
            going = int(np.count_nonzero(lengths > step))
            rows = scores[:going]
            best[step, :going] = rows.argmax(axis=1)
            first, second = rows[:, self._first], rows[:, self._second]
            np.greater(second, first, out=takes_second[step, :going])
            predecessors = np.repeat(rows.max(axis=1)[:, None], rows.shape[1], axis=1)
            predecessors[:, self._inside] = np.maximum(first, second)
            scores[:going] = predecessors + np.stack([logits[step] for logits in sequences[:going]])
        return self._follow_back(scores, best, takes_second, lengths)

    def _follow_back(
        self, scores: np.ndarray, best: np.ndarray, takes_second: np.ndarray, lengths: np.ndarray
    ) -> list[np.ndarray]:
        """Return the paths that end in the best final labels.

        Args:
            scores: The score of the best path that ends in each label, at the end of each sequence (sequences, labels).
            best: The best predecessor of O and B at each step (steps, sequences).
            takes_second: Whether the second predecessor of each I is the better one (steps, sequences, I labels).
            lengths: The length of each sequence (sequences,).
        """
        column = np.full(scores.shape[1], -1)
        column[self._inside] = np.arange(len(self._inside))
        paths = []
        for sequence, (label, length) in enumerate(zip(scores.argmax(axis=1).tolist(), lengths.tolist(), strict=True)):
            path = np.empty(length, np.intp)
            path[-1] = label
            for step in range(length - 1, 0, -1):
                inside = column[path[step]]
                if inside < 0:
                    path[step - 1] = best[step, sequence]
                else:
                    pair = self._second if takes_second[step, sequence, inside] else self._first
                    path[step - 1] = pair[inside]
            paths.append(path)
        return paths
