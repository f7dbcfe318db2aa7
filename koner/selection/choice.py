"""The choice of a batch among the candidates: uncertain texts that do not repeat each other."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count

from koner.errors import KonerError
from koner.selection.candidates import Candidate

# What a pair of words counts for again, each time that a text with the pair is chosen.
REPETITION = 0.5
# Among the candidates of a stream, a pair counts for so much if this share of them has it.
CROWD_SHARE = 0.1
# The power of the number of tokens that the uncertainty of a text is divided by: 0 for the sum over the text, 1 for the
# mean of its tokens.
LENGTH_POWER = 0.5


class CandidateHeap:
    """The candidates of a stream with the highest values, in bounded memory, without duplicates and crowds.

    The value of a candidate is multiplied by its novelty among those that the heap holds, so that texts of one pattern,
    such as the lines of a log, do not take all places. Of equal texts, either one is held, or all have too low values:
    so duplicates need no record of all texts.

    Args:
        size: The largest number of candidates.
        excluded: Fingerprints of texts that are left out, because they are annotated already.

    Attributes:
        duplicates: The number of texts that were left out because the heap holds an equal one.
        annotated: The number of texts that were left out because they are annotated already.
    """

    def __init__(self, size: int, excluded: frozenset[bytes] = frozenset()) -> None:
        self._size = size
        self._excluded = excluded
        self._numbers = count()
        # Of candidates with equal values, the later ones leave first.
        self._heap: list[tuple[float, int, Candidate]] = []
        self._fingerprints: set[bytes] = set()
        self._pairs: Counter[int] = Counter()
        self.duplicates = self.annotated = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Add candidates; those with the lowest values leave if there are too many."""
        for candidate in candidates:
            if candidate.fingerprint in self._excluded:
                self.annotated += 1
            elif candidate.fingerprint in self._fingerprints:
                self.duplicates += 1
            # Novelty can only make it lower.
            elif len(self._heap) < self._size or value(candidate) > self._heap[0][0]:
                self._push(candidate)

    def candidates(self) -> list[Candidate]:
        """Return the candidates, the highest values first."""
        return [candidate for *_, candidate in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]

    def _push(self, candidate: Candidate) -> None:
        worth = value(candidate) * novelty(candidate, self._pairs, CROWD_SHARE * self._size)
        heapq.heappush(self._heap, (worth, -next(self._numbers), candidate))
        self._fingerprints.add(candidate.fingerprint)
        self._pairs.update(candidate.pairs)
        if len(self._heap) > self._size:
            _, _, lowest = heapq.heappop(self._heap)
            self._fingerprints.remove(lowest.fingerprint)
            for pair in lowest.pairs:
                self._pairs[pair] -= 1
                if not self._pairs[pair]:
                    del self._pairs[pair]


def value(candidate: Candidate) -> float:
    """Return what a candidate is worth alone: its uncertainty, divided by a power of its length."""
    return candidate.uncertainty / float(max(1, candidate.tokens) ** LENGTH_POWER)


def novelty(candidate: Candidate, seen: Counter[int], times: float = 1.0) -> float:
    """Return the novelty of a candidate, from 0 to 1: the mean of what its pairs of neighbouring words count for.

    Args:
        candidate: The candidate.
        seen: How often each pair has been seen.
        times: A pair counts for `REPETITION` again each time that it has been seen so often.
    """
    return float(sum(REPETITION ** (seen[pair] / times) for pair in candidate.pairs) / len(candidate.pairs))


def choose(candidates: Sequence[Candidate], budget: int) -> list[Candidate]:
    """Choose a batch for annotation.

    The batch grows by the candidate with the highest product of value and novelty among those chosen before. So a
    sentence that differs from a chosen one in a name only is worth little more than half.

    Novelty can only fall while the batch grows, so it is computed again only for the candidate that comes first (lazy
    greedy maximization, Minoux 1978).

    Args:
        candidates: The candidates; of equal ones, the first is chosen.
        budget: The number of texts to choose.

    Returns:
        The chosen candidates in the order of the choice.

    Raises:
        KonerError: If there are fewer candidates.
    """
    if budget > len(candidates):
        raise KonerError(f"--budget: {budget} is more than the {len(candidates)} texts to choose from")
    seen: Counter[int] = Counter()

    queue = [(-value(candidate), i) for i, candidate in enumerate(candidates)]
    heapq.heapify(queue)
    chosen: list[Candidate] = []
    while len(chosen) < budget:
        _, i = queue[0]
        current = (-value(candidates[i]) * novelty(candidates[i], seen), i)
        if len(queue) > 1 and current > min(queue[1:3]):
            heapq.heapreplace(queue, current)
            continue
        heapq.heappop(queue)
        chosen.append(candidates[i])
        seen.update(candidates[i].pairs)
    return chosen
