"""The engine for one machine: worker processes, each with its own model."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from itertools import islice
from multiprocessing.connection import wait as wait_for_connections
from threading import Thread
from typing import Any, Protocol, TypeVar

from koner.bulk.blocks import Block
from koner.bulk.folder import Folder
from koner.bulk.plan import Plan
from koner.bulk.tagging import BlockResult, BlockTagger, ModelSpec
from koner.errors import KonerError
from koner.hardware import default_device, usable_cores

# Blocks assigned per worker, so that a worker that finishes one has the next at once.
_BLOCKS_PER_WORKER = 2
# Deaths of workers in a row, without a finished block in between, that end the run.
_MAX_DEATHS = 3


class Result(Protocol):
    """The result of a block: it has the block's number."""

    @property
    def number(self) -> int:
        """The number of the block."""


R = TypeVar("R", bound=Result)

_process: Callable[[Block], Any]


def run(plan: Plan, blocks: list[Block], folder: Folder, model: ModelSpec, workers: int) -> Iterator[BlockResult]:
    """Tag blocks in worker processes, and yield each block's result when it is finished.

    Args:
        plan: The plan of the run.
        blocks: The blocks to tag.
        folder: The output folder.
        model: The model that each worker loads.
        workers: The number of processes.

    Raises:
        KonerError: As `run_blocks` does.
    """
    return run_blocks(partial(BlockTagger, replace(plan, blocks=[]), folder, model.load), blocks, workers)


def run_blocks(make: Callable[[], Callable[[Block], R]], blocks: list[Block], workers: int) -> Iterator[R]:
    """Process blocks in worker processes, and yield each block's result when it is finished.

    A worker that dies is replaced, and its blocks are assigned again.

    Args:
        make: Called once in each worker; returns the function that processes a block there.
        blocks: The blocks.
        workers: The number of processes.

    Raises:
        KonerError: If the input can't be read or the output can't be written, or workers die again and again.
    """
    remaining = {block.number: block for block in blocks}
    deaths = 0
    while remaining:
        try:
            for result in _run_pool(make, list(remaining.values()), workers):
                deaths = 0
                del remaining[result.number]
                yield result
        except BrokenProcessPool:
            deaths += 1
            if deaths == _MAX_DEATHS:
                raise KonerError(
                    f"{deaths} workers in a row were killed before they finished a block; is there memory for "
                    f"{workers} of them (--workers)?"
                ) from None


def default_workers(model: ModelSpec) -> int:
    """Return how many processes a model has by default: one for each of the cores that its threads leave, or one GPU.

    Ray is the engine for several GPUs.
    """
    return max(1, usable_cores() // model.threads) if (model.device or default_device()) == "cpu" else 1


def _run_pool(make: Callable[[], Callable[[Block], R]], blocks: list[Block], workers: int) -> Iterator[R]:
    # A forked worker would inherit locks that threads of fsspec or Arrow hold, but not these threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(blocks)), context, _initialize_worker, (make,))
    try:
        queue = iter(blocks)
        running: set[Future[R]] = {
            pool.submit(_process_block, block) for block in islice(queue, workers * _BLOCKS_PER_WORKER)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(_process_block, block) for block in islice(queue, len(done))}
    except BaseException:
        # An error or Ctrl-C ends the run at once, without waiting for blocks that are being tagged.
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _initialize_worker(make: Callable[[], Callable[[Block], Any]]) -> None:
    global _process
    _process = make()
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End the worker when its parent ends: a killed parent can't stop its workers."""
    if parent := multiprocessing.parent_process():
        wait_for_connections([parent.sentinel])
        os._exit(1)


def _process_block(block: Block) -> Any:
    return _process(block)
