"""The candidates of a pool of any size, in memory that does not grow with the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from koner.bulk.scanning import ScanCounts, scan
from koner.inference.tagger import Tagger
from koner.selection.candidates import Candidate, find_candidates
from koner.selection.choice import CandidateHeap

# Candidates for each text to choose. With more, a batch could be more diverse and less uncertain.
_CANDIDATES = 10
_LEAST_CANDIDATES = 1_000


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of a pool, and what was left out.

    Attributes:
        candidates: The candidates, the most uncertain first.
        counts: The numbers of rows, of texts of white space and of malformed rows.
        duplicates: The number of texts that repeat a candidate.
        annotated: The number of texts that are annotated already.
    """

    candidates: list[Candidate]
    counts: ScanCounts
    duplicates: int
    annotated: int


def read_pool(
    source: str,
    model: Path,
    budget: int,
    progress: Callable[..., AbstractContextManager[Any]],
    annotated: frozenset[bytes] = frozenset(),
    **options: Any,
) -> Pool:
    """Tag a pool, and keep the candidates that are most uncertain: ten for each text to choose, at least 1,000.

    Args:
        source: The address of the pool, as `koner tag --engine` takes it.
        model: The folder of the model.
        budget: The number of texts to choose.
        progress: The progress bar, as for `koner.bulk.run.tag_corpus`.
        annotated: Fingerprints of texts that are annotated already.
        **options: The other keyword arguments of `koner.bulk.scanning.scan`.

    Raises:
        KonerError: If the model or the pool can't be read.
    """
    size = max(_LEAST_CANDIDATES, _CANDIDATES * budget)
    # Each block has a heap of its own, so that only its best candidates leave the worker.
    heap = CandidateHeap(size)
    counts, duplicates, already_annotated = ScanCounts(), 0, 0
    for block in scan(source, model, partial(_best_candidates, size, annotated), progress, **options):
        counts.add(block)
        candidates, block_duplicates, block_annotated = block.value
        duplicates += block_duplicates
        already_annotated += block_annotated
        heap.add(candidates)
    return Pool(heap.candidates(), counts, duplicates + heap.duplicates, already_annotated)


def _best_candidates(
    size: int, annotated: frozenset[bytes], tagger: Tagger, groups: Iterator[list[str]]
) -> tuple[list[Candidate], int, int]:
    """Return the best candidates of a block, and the numbers of duplicates and of annotated texts."""
    heap = CandidateHeap(size, annotated)
    for texts in groups:
        heap.add(find_candidates(tagger, texts))
    return heap.candidates(), heap.duplicates, heap.annotated
