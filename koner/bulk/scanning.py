"""Reading all texts of a corpus with a model, by processes of this machine, without an output of its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from koner.bulk.blocks import Block
from koner.bulk.choices import InputFormat
from koner.bulk.local import default_workers, run_blocks
from koner.bulk.plan import Plan, check_input, plan_reading
from koner.bulk.rows import RejectedRow
from koner.bulk.tagging import ModelSpec, group_texts, hash_model
from koner.errors import KonerError
from koner.inference.tagger import Tagger

T = TypeVar("T")
# Returns the value of a block, given a model and the texts of the block in groups.
Process = Callable[[Tagger, Iterator[list[str]]], T]

_BLOCK_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class ScannedBlock(Generic[T]):
    """What was read of a block.

    Attributes:
        number: The number of the block.
        rows: The number of rows.
        blank: The number of texts of white space, which are left out.
        rejected: The number of malformed rows.
        first_rejected: The first of them.
        value: What the process returned for the other texts.
    """

    number: int
    rows: int
    blank: int
    rejected: int
    first_rejected: RejectedRow | None
    value: T


class _Scanner(Generic[T]):
    """Scans blocks in a worker, with a model that is loaded for the first one."""

    def __init__(self, plan: Plan, model: ModelSpec, process: Process[T]) -> None:
        self._plan = plan
        self._model = model
        self._process = process
        self._tagger: Tagger | None = None

    def __call__(self, block: Block) -> ScannedBlock[T]:
        tagger = self._tagger = self._tagger or self._model.load()
        blank, rejected = 0, 0
        first_rejected: RejectedRow | None = None

        def groups() -> Iterator[list[str]]:
            nonlocal blank, rejected, first_rejected
            for batch in self._plan.read_block(block):
                texts = [text for text in batch.texts if text.strip()]
                blank += len(batch.texts) - len(texts)
                rejected += len(batch.rejected)
                first_rejected = first_rejected or next(iter(batch.rejected), None)
                yield from group_texts(texts)

        value = self._process(tagger, groups())
        return ScannedBlock(block.number, block.rows, blank, rejected, first_rejected, value)


def scan(
    source: str,
    model: Path,
    process: Process[T],
    progress: Callable[..., AbstractContextManager[Any]],
    *,
    input_format: InputFormat | None = None,
    column: str = "text",
    workers: int | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Iterator[ScannedBlock[T]]:
    """Read the texts of a corpus in worker processes, and yield what each block gives, in the order of the corpus.

    Args:
        source: The address of the corpus, as `koner tag --engine` takes it.
        model: The folder of the model.
        process: Called in a worker for each block; it and its value must be picklable.
        progress: The progress bar, as for `koner.bulk.run.tag_corpus`.
        input_format: The format of the files; None to infer it from their extensions.
        column: The column that holds the texts.
        workers: The number of processes; None for as many as the cores or GPUs allow.
        device: The device that runs the model; None for the fastest one.
        threads: The number of threads of each worker; None for one.

    Raises:
        KonerError: If the model or the corpus can't be read, or the corpus changes meanwhile.
    """
    if not os.path.isfile(model / "config.json"):
        raise KonerError(f"{model} holds no model; run `dvc repro` or `dvc pull`")
    spec = ModelSpec(model.resolve(), hash_model(model), device, threads or 1)
    plan = plan_reading(source, input_format, column, _BLOCK_ROWS)
    make: Callable[[], _Scanner[T]] = partial(_Scanner, replace(plan, blocks=[]), spec, process)
    # Which worker is faster has no effect on the order.
    early: dict[int, ScannedBlock[T]] = {}
    number = 0
    with progress(total=sum(block.rows for block in plan.blocks), initial=0) as bar:
        for scanned in run_blocks(make, plan.blocks, workers or default_workers(spec)):
            bar.update(scanned.rows)
            early[scanned.number] = scanned
            while number in early:
                yield early.pop(number)
                number += 1
    check_input(plan)


@dataclass(slots=True)
class ScanCounts:
    """The rows of a corpus, and those that were left out; see `ScannedBlock`."""

    rows: int = 0
    blank: int = 0
    rejected: int = 0
    first_rejected: RejectedRow | None = None

    def add(self, block: ScannedBlock[Any]) -> None:
        """Add the counts of a block."""
        self.rows += block.rows
        self.blank += block.blank
        self.rejected += block.rejected
        self.first_rejected = self.first_rejected or block.first_rejected
