"""Constrained decoding: the most likely sequence of labels that is valid BIO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from koner.labels.bio import OUTSIDE, is_valid_transition, tag_type

# Tokens that are decoded at a time; with more, their scores would leave the cache of a processor.
_MOST_TOGETHER = 512


class BioLabels:
    """What BIO says about the labels of a model, as arrays over the ids of the labels.

    Attributes:
        tags: The labels by id.
        type_names: The name of each label's type; that of O is empty.
        types: The number of each label's type (labels,); O has a number of its own.
        outside: The number of the type of O.
        is_inside: Whether each label is an I (labels,).
        begins: The id of the B of each label's type (labels,); for O its own id.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        ids = {label: i for i, label in enumerate(labels)}
        self.tags = list(labels)
        self.type_names = [tag_type(label) for label in labels]
        numbers = {name: i for i, name in enumerate(dict.fromkeys([tag_type(OUTSIDE), *self.type_names]))}
        self.types = np.array([numbers[name] for name in self.type_names])
        self.outside = numbers[tag_type(OUTSIDE)]
        self.is_inside = np.array([not is_valid_transition(OUTSIDE, label) for label in labels])
        self.begins = np.array([ids[OUTSIDE if label == OUTSIDE else f"B-{tag_type(label)}"] for label in labels])

    def continues(self, path: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return whether each token continues the entity of the token before it, as an I of the same type.

        Args:
            path: The label ids of sequences, one sequence after the other (tokens,).
            starts: The first token of each sequence, and the end of the last one (sequences + 1,).

        Returns:
            One boolean per token (tokens,).
        """
        types = self.types[path]
        continued: np.ndarray = self.is_inside[path]
        continued[1:] &= types[1:] == types[:-1]
        continued[starts[starts < len(path)]] = False
        return continued


class _Stretch(NamedTuple):
    """The tokens of a sequence from `start` up to `end`; `is_first` if there is no token of the sequence before."""

    start: int
    end: int
    is_first: bool


class ConstrainedDecoder:
    """Viterbi decoding (Viterbi 1967) over a label set whose invalid transitions are forbidden.

    A valid transition costs nothing, so the best path is the valid sequence with the highest sum of logits. Of equally
    good ones, it is the one with the lowest id at the last token, then at the one before, and so on.

    Where the most likely labels are valid, they are the best path. Only stretches around each invalid I are decoded, as
    short as these bounds allow:

    - An O or a B may follow any label. So a stretch ends before the next O or B after its last invalid I.
    - Labels can be replaced so that each I is valid. An O or B whose logit is better than that of any other label of
      its token by more than what this costs has its place in every best path. So a stretch begins after such a token.

    In BIO, O and B may follow any label, and the I of a type only its own B and I. So the best predecessor is the same
    for all O and B, and one of two for each I: a step takes time linear in the labels, not quadratic.
    """

    def __init__(self, labels: BioLabels) -> None:
        self._labels = labels
        self._inside = np.flatnonzero(labels.is_inside)
        # The two predecessors of each I, in the order of their ids: of equally good ones, the first counts.
        pairs = np.sort([labels.begins[self._inside], self._inside], axis=0)
        self._first, self._second = pairs
        self._pairs = dict(zip(self._inside.tolist(), pairs.T.tolist(), strict=True))

    def decode(self, logits: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the label ids of the best path of each sequence.

        Args:
            logits: The logits of sequences, one sequence after the other (tokens, labels).
            starts: The first token of each sequence, and the end of the last one (sequences + 1,).

        Returns:
            The label ids (tokens,), in the order of the logits.
        """
        path: np.ndarray = logits.argmax(axis=1)
        invalid = np.flatnonzero(self._labels.is_inside[path] & ~self._labels.continues(path, starts))
        if not len(invalid):
            return path
        # The longest first, so that those which go on are always the first rows.
        stretches = sorted(self._find_stretches(logits, path, starts, invalid), key=lambda s: s.start - s.end)
        while stretches:
            count = max(1, _MOST_TOGETHER // (stretches[0].end - stretches[0].start))
            self._decode_stretches(logits, path, stretches[:count])
            del stretches[:count]
        return path

    def _find_stretches(
        self, logits: np.ndarray, path: np.ndarray, starts: np.ndarray, invalid: np.ndarray
    ) -> Iterator[_Stretch]:
        """Yield the stretches around the `invalid` I, which are the numbers of tokens, in the most likely labels."""
        sequences = np.searchsorted(starts, invalid, side="right") - 1
        costs = self._costs(logits, path, invalid, invalid == starts[sequences])
        last_invalid = np.full(len(starts) - 1, -1)
        last_invalid[sequences] = invalid
        before_invalid = np.arange(len(path)) < np.repeat(last_invalid, np.diff(starts))
        margins = self._margins(logits, path, before_invalid).tolist()
        for sequence in np.unique(sequences).tolist():
            start, end = starts[sequence : sequence + 2].tolist()
            cost = next_cost = next_cost_alone = 0.0
            is_valid = True
            for token in range(end - 1, start - 1, -1):
                if margins[token] > cost + next_cost_alone:
                    if not is_valid:
                        yield _Stretch(token + 1, end, False)
                    end, cost, is_valid = token, 0.0, True
                else:
                    cost += next_cost
                    is_valid = is_valid and token not in costs
                next_cost, next_cost_alone = costs.get(token, (0.0, 0.0))
            if not is_valid:
                yield _Stretch(start, end, True)

    def _costs(
        self, logits: np.ndarray, path: np.ndarray, invalid: np.ndarray, is_first: np.ndarray
    ) -> dict[int, tuple[float, float]]:
        """Return what it costs to make each invalid I valid, and what it costs without a change of the token before.

        Either the I becomes the B of its type, or the label before becomes that B. Both can be done to all of them.
        """
        begins = self._labels.begins[path[invalid]]
        alone = logits[invalid, path[invalid]].astype(np.float64) - logits[invalid, begins]
        before = invalid - 1
        other = logits[before, path[before]].astype(np.float64) - logits[before, begins]
        cheapest = np.where(is_first, alone, np.minimum(alone, other))
        return dict(zip(invalid.tolist(), zip(cheapest.tolist(), alone.tolist(), strict=True), strict=True))

    def _margins(self, logits: np.ndarray, path: np.ndarray, before_invalid: np.ndarray) -> np.ndarray:
        """Return by how much the most likely label of each token is better than any other.

        It is -inf for an I, and not computed but inf for an O or B with no invalid I after it in its sequence.
        """
        is_inside = self._labels.is_inside[path]
        margins = np.where(is_inside, -np.inf, np.inf)
        tokens = np.flatnonzero(before_invalid & ~is_inside)
        others = logits[tokens]
        chosen = np.arange(len(tokens)), path[tokens]
        best = others[chosen].astype(np.float64)
        others[chosen] = -np.inf
        margins[tokens] = best - others.max(axis=1)
        return margins

    def _decode_stretches(self, logits: np.ndarray, path: np.ndarray, stretches: Sequence[_Stretch]) -> None:
        """Put the best labels of stretches, which are sorted by length, the longest first, into the path."""
        starts, ends, is_first = np.array(stretches).T
        steps = int(ends[0] - starts[0])
        # The rows after the end of a stretch are not used.
        rows = np.minimum(starts + np.arange(steps)[:, None], len(logits) - 1)
        scores = logits[rows].astype(np.float64)
        types = np.where(is_first, self._labels.outside, self._labels.types[path[starts - 1]])
        scores[0, self._labels.is_inside & (self._labels.types != types[:, None])] = -np.inf
        going = np.count_nonzero(starts + np.arange(steps)[:, None] < ends, axis=1).tolist()
        predecessors = np.empty_like(scores[0])
        for step in range(1, steps):
            previous, best = scores[step - 1, : going[step]], predecessors[: going[step]]
            best[:] = previous.max(axis=1, keepdims=True)
            pairs = previous.take(self._first, axis=1), previous.take(self._second, axis=1)
            best[:, self._inside] = np.maximum(*pairs)
            scores[step, : going[step]] += best
        self._follow_back(scores, path, stretches)

    def _follow_back(self, scores: np.ndarray, path: np.ndarray, stretches: Sequence[_Stretch]) -> None:
        """Put the labels that lead to the best final labels into the path.

        Args:
            scores: The score of the best path up to each label (steps, stretches, labels).
            path: The label ids (tokens,).
            stretches: The stretches.
        """
        best = scores.argmax(axis=2).T.tolist()
        for i, (start, end, _) in enumerate(stretches):
            label = best[i][end - start - 1]
            for token in range(end - 1, start, -1):
                path[token] = label
                step = token - start - 1
                pair = self._pairs.get(label)
                label = max(pair, key=scores[step, i].__getitem__) if pair else best[i][step]
            path[start] = label
