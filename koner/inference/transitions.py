"""Constrained decoding: the most likely sequence of labels that is valid BIO."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from koner.labels.bio import OUTSIDE, is_valid_transition, tag_type
from koner.tokens.spans import Span

# Tokens that are decoded at a time; with more, their scores would leave the cache of a processor.
_MOST_TOGETHER = 512


class BioLabels:
    """What BIO says about the labels of a model, as arrays over the ids of the labels.

    Attributes:
        tags: The labels by id.
        type_names: The name of each label's type; that of O is empty.
        types: The number of each label's type (labels,); O has a number of its own.
        is_inside: Whether each label is an I (labels,).
        begins: The id of the B of each label's type (labels,); for O its own id.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        ids = {label: i for i, label in enumerate(labels)}
        self.tags = list(labels)
        self.type_names = [tag_type(label) for label in labels]
        numbers = {name: i for i, name in enumerate(dict.fromkeys(self.type_names))}
        self.types = np.array([numbers[name] for name in self.type_names])
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


class ConstrainedDecoder:
    """Viterbi decoding (Viterbi 1967) over a label set whose invalid transitions are forbidden.

    A valid transition costs nothing, so the best path is the valid sequence with the highest sum of logits. Of equally
    good ones, it is the one with the lowest id at the last token, then at the one before, and so on.

    Where the most likely labels are valid, they are the best path. Only stretches around each invalid I are decoded.
    Each begins at an O or B, because what is before such a token has no influence on it, and is as short as this bound
    allows: it costs a certain sum of logits to change labels of the stretch so that all are valid; if no I is so close
    to the best label of the first token, then no best path has an I there.

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
        # By label id: the B of its type, and the I if there is one.
        self._begins = labels.begins.tolist()
        insides = {self._begins[i]: i for i in self._inside.tolist()}
        self._insides = [insides.get(begin) for begin in self._begins]

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
        stretches = sorted(self._find_stretches(logits, path, starts, invalid), key=lambda s: s[0] - s[1])
        while stretches:
            count = max(1, _MOST_TOGETHER // (stretches[0][1] - stretches[0][0]))
            self._decode_stretches(logits, path, stretches[:count])
            del stretches[:count]
        return path

    def _find_stretches(
        self, logits: np.ndarray, path: np.ndarray, starts: np.ndarray, invalid: np.ndarray
    ) -> Iterator[Span]:
        """Yield the ranges of tokens around the `invalid` I, which are numbers of tokens, in the most likely labels."""
        sequences = np.searchsorted(starts, invalid, side="right") - 1
        last_invalid = np.full(len(starts) - 1, -1)
        last_invalid[sequences] = invalid
        margins = self._margins(logits, path, np.repeat(last_invalid, np.diff(starts))).tolist()
        costs = self._costs(logits, path.tolist(), invalid.tolist(), set(starts.tolist()))
        for sequence in np.unique(sequences).tolist():
            start, end = starts[sequence : sequence + 2].tolist()
            cost, is_valid = 0.0, True
            for token in range(end - 1, start - 1, -1):
                if token in costs:
                    cost, is_valid = cost + costs[token], False
                if margins[token] > cost or token == start:
                    if not is_valid:
                        yield token, end
                    end, cost, is_valid = token, 0.0, True

    def _margins(self, logits: np.ndarray, path: np.ndarray, last_invalid: np.ndarray) -> np.ndarray:
        """Return by how much the most likely label of each token is better than any I (tokens,).

        It is not computed, but inf, for an O or B that has no invalid I after it in its sequence, where `last_invalid`
        (tokens,) is the last one.
        """
        is_inside = self._labels.is_inside[path]
        margins = np.where(is_inside, -np.inf, np.inf)
        tokens = np.flatnonzero(~is_inside & (np.arange(len(path)) < last_invalid))
        best = logits[tokens, path[tokens]].astype(np.float64)
        margins[tokens] = best - logits[tokens][:, self._inside].max(axis=1, initial=-np.inf)
        return margins

    def _costs(
        self, logits: np.ndarray, path: Sequence[int], invalid: Sequence[int], starts: Collection[int]
    ) -> dict[int, float]:
        """Return what it costs to change labels so that the invalid I are valid, by the number of the token.

        From left to right, the cheapest of three changes is made: the I continues the entity before it, or becomes the
        B of its type, or the label before it becomes that B.
        """
        types = self._labels.type_names
        costs: dict[int, float] = {}
        token = 0
        for first in invalid:
            if first < token:
                continue
            previous = None if first in starts else path[first - 1]
            for token in range(first, len(path)):
                label = path[token]
                begin = self._begins[label]
                if label == begin or (token > first and token in starts):
                    break
                if previous is None or types[previous] != types[label]:
                    best = logits.item(token, label)
                    changes = [(best - logits.item(token, begin), begin)]
                    if previous is not None:
                        changes.append((logits.item(token - 1, previous) - logits.item(token - 1, begin), label))
                        if (inside := self._insides[previous]) is not None:
                            changes.append((best - logits.item(token, inside), inside))
                    costs[token], label = min(changes)
                previous = label
        return costs

    def _decode_stretches(self, logits: np.ndarray, path: np.ndarray, stretches: Sequence[Span]) -> None:
        """Put the best labels of stretches, which are sorted by length, the longest first, into the path."""
        starts, ends = np.array(stretches).T
        tokens = starts + np.arange(ends[0] - starts[0])[:, None]
        # The rows after the end of a stretch are not used.
        scores = logits[np.minimum(tokens, len(logits) - 1)].astype(np.float64)
        scores[0][:, self._inside] = -np.inf
        going = np.count_nonzero(tokens < ends, axis=1).tolist()
        predecessors = np.empty_like(scores[0])
        for step in range(1, len(scores)):
            previous, best = scores[step - 1, : going[step]], predecessors[: going[step]]
            best[:] = previous.max(axis=1, keepdims=True)
            pairs = previous.take(self._first, axis=1), previous.take(self._second, axis=1)
            best[:, self._inside] = np.maximum(*pairs)
            scores[step, : going[step]] += best
        self._follow_back(scores, path, stretches)

    def _follow_back(self, scores: np.ndarray, path: np.ndarray, stretches: Sequence[Span]) -> None:
        """Put the labels that lead to the best final labels into the path.

        Args:
            scores: The score of the best path up to each label (steps, stretches, labels).
            path: The label ids (tokens,).
            stretches: The ranges of tokens.
        """
        best = scores.argmax(axis=2).T.tolist()
        for i, (start, end) in enumerate(stretches):
            label = best[i][end - start - 1]
            for token in range(end - 1, start, -1):
                path[token] = label
                step = token - start - 1
                pair = self._pairs.get(label)
                label = max(pair, key=scores[step, i].__getitem__) if pair else best[i][step]
            path[start] = label
