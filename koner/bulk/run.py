"""`koner tag --engine`: a checkpointed run over a corpus."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from koner.bulk import local, ray_data
from koner.bulk.addresses import absolute_address
from koner.bulk.blocks import Block
from koner.bulk.choices import EngineName
from koner.bulk.folder import Folder
from koner.bulk.plan import REJECTED, Plan, check_input, count_rejected_rows, finished_blocks, prepare_plan
from koner.bulk.tagging import BlockResult, ModelSpec, hash_model
from koner.errors import KonerError

_Engine = Callable[[Plan, list[Block], Folder, ModelSpec], Iterator[BlockResult]]


class Progress(Protocol):
    """A progress bar such as `tqdm`, created with the number of all rows and of the finished rows."""

    def __call__(self, *, total: int, initial: int) -> AbstractContextManager[Any]:
        """Return a progress bar for `total` rows, of which `initial` are done."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The summary of a complete run, as `koner tag` prints it.

    Attributes:
        blocks: The number of blocks.
        rows: The number of rows.
        rejected: The number of rejected rows.
        rejected_address: The address of the folder that holds them.
    """

    blocks: int
    rows: int
    rejected: int
    rejected_address: str

    def __str__(self) -> str:
        tagged = f"{self.rows:,} rows in {self.blocks:,} blocks: {self.rows - self.rejected:,} tagged"
        return f"{tagged}, {self.rejected:,} rejected" + (f" to {self.rejected_address}" if self.rejected else "")


def tag_corpus(
    source: str,
    output: str,
    model: Path,
    engine: EngineName,
    progress: Progress,
    *,
    workers: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    **settings: Any,
) -> RunSummary:
    """Tag a corpus into a folder, or resume an interrupted run: finished blocks are kept.

    Args:
        source: The address of the corpus.
        output: The address of the folder.
        model: The folder of the model.
        engine: The engine that runs the workers.
        progress: The progress bar.
        workers: The number of workers (processes or actors); None for as many as the cores or GPUs allow.
        device: The device that runs the model; None for the fastest one of the worker's machine.
        threads: The number of threads of each worker; None for one.
        **settings: The keyword arguments of `koner.bulk.plan.prepare_plan`.

    Raises:
        KonerError: If the user can correct the error. Blocks finished by then are kept.
    """
    if not os.path.isfile(model / "config.json"):
        raise KonerError(f"{model} holds no model; run `dvc repro` or `dvc pull`")
    folder = Folder(absolute_address(output))
    spec = ModelSpec(model.resolve(), hash_model(model), device, threads or 1)
    with ExitStack() as stack:
        # Ray may be missing, so check it before the input is read, which takes long.
        run = _start_engine(engine, workers, spec, stack)
        stack.enter_context(folder.lock())
        plan = prepare_plan(source, folder, spec.hash, **settings)
        finished = finished_blocks(folder)
        remaining = [block for block in plan.blocks if block.name not in finished]
        rows = sum(block.rows for block in plan.blocks)
        with progress(total=rows, initial=rows - sum(block.rows for block in remaining)) as bar:
            for result in run(plan, remaining, folder, spec) if remaining else ():
                bar.update(result.tagged + result.rejected)
        check_input(plan)
        if missing := {block.name for block in plan.blocks} - finished_blocks(folder):
            raise KonerError(
                f"{len(missing)} files of {folder.address} are missing, the first is {min(missing)}; is the folder on "
                "storage that every worker reaches?"
            )
        folder.remove_temporary_files()
        return RunSummary(len(plan.blocks), rows, count_rejected_rows(folder), f"{folder.address}/{REJECTED}")


def _start_engine(name: EngineName, workers: int | None, model: ModelSpec, stack: ExitStack) -> _Engine:
    if name == "ray":
        return partial(ray_data.run, stack.enter_context(ray_data.connect()), workers=workers)
    return partial(local.run, workers=workers or local.default_workers(model))
