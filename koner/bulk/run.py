"""`koner tag --engine`: a run over a corpus from beginning to end, or from where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from koner.bulk import local, ray_data
from koner.bulk.blocks import Block
from koner.bulk.files import Folder, absolute
from koner.bulk.job import REJECTED, Plan, finished, prepare, rejected_rows
from koner.bulk.tagging import Done, ModelChoice
from koner.errors import KonerError
from koner.locking import folder_hash
from koner.runtime import default_device, usable_cores

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

_Tagging = Callable[[Plan, list[Block], str, ModelChoice], Iterator[Done]]


class Progress(Protocol):
    """What shows how far a run is, as `tqdm` does: called with the rows there are and those that are done."""

    def __call__(self, *, total: int, initial: int) -> AbstractContextManager[Any]: ...


@dataclass(frozen=True, slots=True)
class Total:
    """A run that is complete: its rows, those tagged and put aside, and where these are."""

    blocks: int
    rows: int
    rejected: int
    aside: str

    def __str__(self) -> str:
        told = f"{self.rows:,} rows in {self.blocks:,} blocks: {self.rows - self.rejected:,} tagged"
        return f"{told}, {self.rejected:,} put aside" + (f" in {self.aside}" if self.rejected else "")


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
) -> Total:
    """Tags a corpus into a folder, both at any address; `settings` are those of `koner.bulk.job.prepare`.

    Blocks that are done stay as they are. `workers` are processes or actors of `threads` threads each, one unless
    given; unless given, there are as many as the cores or GPUs at hand allow. Raises `KonerError` for whatever a user
    can put right; what is done by then stays.
    """
    if not (model / "config.json").is_file():
        raise KonerError(f"{model} holds no model; run `dvc repro` or `dvc pull`")
    folder = Folder(absolute(output))
    choice = ModelChoice(model.resolve(), folder_hash(model), device, threads or 1)
    with ExitStack() as opened:
        # First what may be missing, then what takes long.
        tag = _engine(engine, workers, choice, opened)
        plan = prepare(source, folder, choice.hash, **settings)
        done = finished(folder)
        left = [block for block in plan.blocks if block.name not in done]
        rows = sum(block.rows for block in plan.blocks)
        with progress(total=rows, initial=rows - sum(block.rows for block in left)) as bar:
            for found in tag(plan, left, folder.address, choice) if left else ():
                bar.update(found.tagged + found.rejected)
    if lost := {block.name for block in plan.blocks} - finished(folder):
        raise KonerError(
            f"{len(lost)} files of {folder.address} are not there, {min(lost)} the first; is it a place that every "
            "worker reaches?"
        )
    folder.remove_drafts()
    return Total(len(plan.blocks), rows, rejected_rows(folder), f"{folder.address}/{REJECTED}")


def _engine(name: EngineName, workers: int | None, model: ModelChoice, opened: ExitStack) -> _Tagging:
    if name == "ray":
        return partial(ray_data.run, opened.enter_context(ray_data.cluster()), workers=workers)
    # A GPU is one worker's; for several on one machine there is Ray.
    many = usable_cores() // model.threads if (model.device or default_device()) == "cpu" else 1
    return partial(local.run, workers=workers or max(1, many))
