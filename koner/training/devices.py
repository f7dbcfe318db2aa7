"""Leases of GPUs, for several jobs on one machine."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from koner.errors import KonerError

GPUS_VARIABLE = "KONER_GPUS"
_VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
_POLL_SECONDS = 1.0

_logger = logging.getLogger(__name__)


@contextmanager
def lease_gpus(job: str, count: int = 1) -> Iterator[list[str]]:
    """Lease some of the GPUs in the environment variable KONER_GPUS, and make only these visible to this process.

    Wait until enough of them are free. Without the variable all GPUs stay visible, and the list is empty. Enter this
    context before CUDA is initialized. A lease is a file lock, which the operating system releases when the process
    ends for any reason. Leases hold between the jobs of one user.

    Args:
        job: The name of the job in the log.
        count: The number of GPUs to lease.

    Yields:
        The names of the leased GPUs.

    Raises:
        KonerError: If the variable is not a list of GPUs (numbers or UUIDs with commas between, as in
            CUDA_VISIBLE_DEVICES; a GPU that is listed twice serves two jobs), or names fewer than `count`.
    """
    value = os.environ.get(GPUS_VARIABLE)
    if value is None:
        yield []
        return
    gpus = [name.strip() for name in value.split(",")]
    if not all(name.replace("-", "").isalnum() for name in gpus):
        raise KonerError(f"{GPUS_VARIABLE}: '{value}' is not allowed; it must be GPUs with commas between, such as 0,1")
    if len(set(gpus)) < count:
        raise KonerError(f"{GPUS_VARIABLE}: '{value}' names fewer GPUs than the {count} processes need")
    leases = _acquire(gpus, job, count)
    visible = os.environ.get(_VISIBLE_VARIABLE)
    try:
        os.environ[_VISIBLE_VARIABLE] = ",".join(leases)
        yield list(leases)
    finally:
        if visible is None:
            del os.environ[_VISIBLE_VARIABLE]
        else:
            os.environ[_VISIBLE_VARIABLE] = visible
        _release(leases)


def _acquire(gpus: Sequence[str], job: str, count: int) -> dict[str, FileLock]:
    folder = _lock_folder()
    # A GPU that is listed twice has two locks.
    locks = [(gpu, FileLock(folder / f"gpu-{gpu}.{gpus[:i].count(gpu)}.lock")) for i, gpu in enumerate(gpus)]
    is_waiting = False
    while True:
        leases: dict[str, FileLock] = {}
        for gpu, lock in locks:
            if len(leases) < count and gpu not in leases:
                with suppress(Timeout):
                    lock.acquire(timeout=0)
                    leases[gpu] = lock
        if len(leases) == count:
            return leases
        # Two jobs that each kept a part of the GPUs that they need would be in a deadlock.
        _release(leases)
        if not is_waiting:
            _logger.info("%s: waiting for %d of the GPUs %s", job, count, ", ".join(gpus))
            is_waiting = True
        time.sleep(_POLL_SECONDS)


def _release(leases: Mapping[str, FileLock]) -> None:
    for lock in leases.values():
        lock.release()


def _lock_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"koner-{os.getuid() if hasattr(os, 'getuid') else 'gpus'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
