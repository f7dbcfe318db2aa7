"""The process group of distributed training, and its collective operations."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from koner.errors import KonerError
from koner.storage.workspace import LAUNCHER_PID, exit_with_parent
from koner.training.launcher import RESUME_HINT, is_launched

_TIMEOUT = timedelta(minutes=30)

Value = TypeVar("Value")


@contextmanager
def process_group(world_size: int) -> Iterator[None]:
    """Make this process a member of the group of processes that train together.

    Args:
        world_size: The number of processes on all machines; a single process needs no group.

    Raises:
        KonerError: If the launcher started another number of processes, or if the connection to another is lost.
    """
    launched = int(os.environ["WORLD_SIZE"]) if is_launched() else 1
    if launched != world_size:
        raise KonerError(
            f"processes: {launched} were started, but params.yaml asks for {world_size} (processes times machines)"
        )
    if world_size == 1:
        yield
        return
    if LAUNCHER_PID in os.environ:
        exit_with_parent(int(os.environ[LAUNCHER_PID]))
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_TIMEOUT)
    try:
        yield
    except RuntimeError as error:
        # Gloo's errors have no class of their own.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise KonerError(f"process {rank()} lost contact with another; {RESUME_HINT}") from None
    state.destroy_process_group()


def rank() -> int:
    """Return the number of this process in its group, from 0."""
    return int(PartialState().process_index)


def world_size() -> int:
    """Return the number of processes in the group; 1 without distributed training."""
    return int(PartialState().num_processes)


def barrier() -> None:
    """Wait until all processes have reached this call."""
    PartialState().wait_for_everyone()


def broadcast(value: Value) -> Value:
    """Return the value of rank 0 in all processes."""
    values: list[Value] = broadcast_object_list([value])
    return values[0]


def all_gather(value: Value) -> list[Value]:
    """Return the values of all processes, ordered by rank, in all processes."""
    values: list[Value] = gather_object([value])
    return values


def check_equal(values: dict[str, Any]) -> None:
    """Check that all processes have the same values.

    Args:
        values: The values of this process, by the name that the message uses.

    Raises:
        KonerError: In all processes, if a value of one of them differs from that of rank 0.
    """
    first, *others = all_gather(values)
    for i, other in enumerate(others, start=1):
        for name, value in first.items():
            if other[name] != value:
                raise KonerError(
                    f"{name} of process {i} differs from that of process 0: all machines need the same commit and data"
                )


def check_shared_folder(folder: Path) -> None:
    """Check that all processes see the same folder; rank 0 creates it if it does not exist.

    Raises:
        KonerError: In all processes, if one of them sees another folder under this path.
    """
    marker = folder / broadcast(f".{uuid.uuid4().hex}")
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    barrier()
    sees_marker = all_gather(marker.exists())
    if rank() == 0:
        marker.unlink()
    if not all(sees_marker):
        raise KonerError(
            f"{folder} of process {sees_marker.index(False)} differs from that of process 0: "
            "the project must be in a folder that all machines share"
        )
