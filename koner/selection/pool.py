"""Candidates of a pool of any size, found by processes of this machine in memory that does not grow with the pool."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from koner.bulk.blocks import Block
from koner.bulk.choices import InputFormat
from koner.bulk.local import default_workers, run_blocks
from koner.bulk.plan import Plan, check_input, plan_reading
from koner.bulk.rows import RejectedRow
from koner.bulk.tagging import ModelSpec, group_texts, hash_model
from koner.errors import KonerError
from koner.inference.tagger import Tagger
from koner.selection.candidates import Candidate, find_candidates
from koner.selection.choice import CandidateHeap

# Candidates for each text to choose. With more, a batch could be more diverse and less uncertain.
_CANDIDATES = 10
_LEAST_CANDIDATES = 1_000
# A block is what a worker finds candidates in at once; the candidates of a block come back together.
_BLOCK_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of a pool, and what was left out.

    Attributes:
        candidates: The candidates, the most uncertain first.
        rows: The number of rows of the pool.
        blank: The number of texts of white space.
        duplicates: The number of texts that repeat a candidate.
        annotated: The number of texts that are annotated already.
        rejected: The number of malformed rows.
        first_rejected: The first of them that was found.
    """

    candidates: list[Candidate]
    rows: int
    blank: int
    duplicates: int
    annotated: int
    rejected: int
    first_rejected: RejectedRow | None


@dataclass(frozen=True, slots=True)
class _BlockCandidates:
    """What a worker found in a block."""

    number: int
    rows: int
    candidates: list[Candidate]
    blank: int
    duplicates: int
    annotated: int
    rejected: list[RejectedRow]
    rejected_count: int


class _BlockReader:
    """Finds the candidates of a block, in a worker, with a model that is loaded for the first block."""

    def __init__(self, plan: Plan, model: ModelSpec, size: int, excluded: frozenset[bytes]) -> None:
        self._plan = plan
        self._model = model
        self._size = size
        self._excluded = excluded
        self._tagger: Tagger | None = None

    def __call__(self, block: Block) -> _BlockCandidates:
        tagger = self._tagger = self._tagger or self._model.load()
        heap = CandidateHeap(self._size, self._excluded)
        blank = rejected = 0
        first_rejected: list[RejectedRow] = []
        for batch in self._plan.read_block(block):
            texts = [text for text in batch.texts if text.strip()]
            blank += len(batch.texts) - len(texts)
            rejected += len(batch.rejected)
            first_rejected = first_rejected or batch.rejected[:1]
            for group in group_texts(texts):
                heap.add(find_candidates(tagger, group))
        counts = (blank, heap.duplicates, heap.annotated)
        return _BlockCandidates(block.number, block.rows, heap.candidates(), *counts, first_rejected, rejected)


def read_pool(
    source: str,
    model: Path,
    budget: int,
    progress: Callable[..., AbstractContextManager[Any]],
    *,
    annotated: Iterable[bytes] = (),
    input_format: InputFormat | None = None,
    column: str = "text",
    workers: int | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Pool:
    """Tag a pool, and keep the candidates that are most uncertain: ten for each text to choose, at least 1,000.

    Args:
        source: The address of the pool, as `koner tag --engine` takes it.
        model: The folder of the model.
        budget: The number of texts to choose.
        progress: The progress bar, as for `koner.bulk.run.tag_corpus`.
        annotated: Fingerprints of texts that are annotated already.
        input_format: The format of the files; None to infer it from their extensions.
        column: The column that holds the texts.
        workers: The number of processes; None for as many as the cores or GPUs allow.
        device: The device that runs the model; None for the fastest one.
        threads: The number of threads of each worker; None for one.

    Raises:
        KonerError: If the model or the pool can't be read.
    """
    if not os.path.isfile(model / "config.json"):
        raise KonerError(f"{model} holds no model; run `dvc repro` or `dvc pull`")
    spec = ModelSpec(model.resolve(), hash_model(model), device, threads or 1)
    plan = plan_reading(source, input_format, column, _BLOCK_ROWS)
    size = max(_LEAST_CANDIDATES, _CANDIDATES * budget)
    heap = CandidateHeap(size)
    make = partial(_BlockReader, replace(plan, blocks=[]), spec, size, frozenset(annotated))
    # By number: of a text and its duplicates, the same one is kept whichever worker is faster.
    early: dict[int, _BlockCandidates] = {}
    results: list[_BlockCandidates] = []
    with progress(total=sum(block.rows for block in plan.blocks), initial=0) as bar:
        for result in run_blocks(make, plan.blocks, workers or default_workers(spec)):
            bar.update(result.rows)
            early[result.number] = result
            while next_result := early.pop(len(results), None):
                heap.add(next_result.candidates)
                results.append(replace(next_result, candidates=[]))
    check_input(plan)
    return _summarize(heap, results)


def _summarize(heap: CandidateHeap, results: list[_BlockCandidates]) -> Pool:
    first_rejected = [row for result in results for row in result.rejected]
    return Pool(
        heap.candidates(),
        sum(result.rows for result in results),
        sum(result.blank for result in results),
        heap.duplicates + sum(result.duplicates for result in results),
        sum(result.annotated for result in results),
        sum(result.rejected_count for result in results),
        first_rejected[0] if first_rejected else None,
    )
