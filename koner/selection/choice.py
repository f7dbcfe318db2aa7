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
# The power of the number of tokens that the uncertainty of a text is divided by: 0 for the sum over the text, 1 for the
# mean of its tokens.
LENGTH_POWER = 0.5


class CandidateHeap:
    """The candidates of a stream with the highest values, in bounded memory, and without duplicates.

    Equal texts have equal values: either the first of them is in the heap, or all of them are too low for it. So
    duplicates need no record of all texts.

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
            else:
                self._fingerprints.add(candidate.fingerprint)
                heapq.heappush(self._heap, (value(candidate), -next(self._numbers), candidate))
                if len(self._heap) > self._size:
                    self._fingerprints.remove(heapq.heappop(self._heap)[2].fingerprint)

    def candidates(self) -> list[Candidate]:
        """Return the candidates, the highest values first."""
        return [candidate for *_, candidate in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]


def value(candidate: Candidate) -> float:
    """Return what a candidate is worth alone: its uncertainty, divided by a power of its length."""
    return candidate.uncertainty / float(max(1, candidate.tokens) ** LENGTH_POWER)


def choose(candidates: Sequence[Candidate], budget: int) -> list[Candidate]:
    """Choose a batch for annotation.

    The batch grows by the candidate with the highest product of value and novelty. The novelty is the mean over the
    pairs of neighbouring words of a text, each of which counts for `REPETITION` again for each chosen text that has it.
    So a sentence that differs from a chosen one in a name only is worth little more than half.

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

    def gain(candidate: Candidate) -> float:
        novelty = sum(REPETITION ** seen[pair] for pair in candidate.pairs) / len(candidate.pairs)
        return value(candidate) * novelty

    queue = [(-value(candidate), i) for i, candidate in enumerate(candidates)]
    heapq.heapify(queue)
    chosen: list[Candidate] = []
    while len(chosen) < budget:
        _, i = queue[0]
        current = (-gain(candidates[i]), i)
        if len(queue) > 1 and current > min(queue[1:3]):
            heapq.heapreplace(queue, current)
            continue
        heapq.heappop(queue)
        chosen.append(candidates[i])
        seen.update(candidates[i].pairs)
    return chosen
