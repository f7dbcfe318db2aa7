"""The engine of one machine: processes, each with a model of its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import wait as wait_for
from threading import Thread

from koner.bulk.blocks import Block
from koner.bulk.job import Plan
from koner.bulk.tagging import BlockTagger, Done, ModelChoice
from koner.errors import KonerError

# Blocks that wait at each worker, so that it need not.
_AHEAD = 2
# Deaths of workers without a block done in between, after which it is no accident.
_DEATHS = 3

_tagger: BlockTagger


def run(plan: Plan, blocks: list[Block], address: str, model: ModelChoice, workers: int) -> Iterator[Done]:
    """Tags blocks in `workers` processes; gives each as it is done. A worker that dies is replaced.

    Raises `KonerError` as the tagging does, and where workers die again and again.
    """
    left = {block.number: block for block in blocks}
    deaths = 0
    while left:
        try:
            for done in _run(plan, list(left.values()), address, model, workers):
                deaths = 0
                del left[done.number]
                yield done
        except BrokenProcessPool:
            deaths += 1
            if deaths == _DEATHS:
                raise KonerError(
                    f"{deaths} workers in turn were killed before they had done a block; is there memory for "
                    f"{workers} of them (--workers)?"
                ) from None


def _run(plan: Plan, blocks: list[Block], address: str, model: ModelChoice, workers: int) -> Iterator[Done]:
    # Not forked: threads of the parent (of fsspec, of Arrow) would be gone in the middle of what they do.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(blocks)), context, _start, (replace(plan, blocks=[]), address, model))
    try:
        waiting = iter(blocks)
        running: set[Future[Done]] = {pool.submit(_tag, block) for block in islice(waiting, workers * _AHEAD)}
        while running:
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                yield future.result()
            running |= {pool.submit(_tag, block) for block in islice(waiting, len(ready))}
    except BaseException:
        # Whatever ends the run, Ctrl-C too, need not wait for the blocks that are being tagged.
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(plan: Plan, address: str, model: ModelChoice) -> None:
    global _tagger
    _tagger = BlockTagger(plan, address, model.load)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends the worker when its parent is gone: killed, that could not tell it."""
    if parent := multiprocessing.parent_process():
        wait_for([parent.sentinel])
        os._exit(1)


def _tag(block: Block) -> Done:
    return _tagger(block)
