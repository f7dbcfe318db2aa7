"""GPUs that several jobs on one machine share: each takes some that no other has."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from koner.errors import KonerError

# What CUDA_VISIBLE_DEVICES would take, with commas between: numbers or UUIDs. One named twice takes two jobs.
GPUS = "KONER_GPUS"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL_SECONDS = 1.0


@contextmanager
def leased_gpus(job: str, count: int = 1) -> Iterator[list[str]]:
    """Leaves this process `count` GPUs of those in `KONER_GPUS`, waiting until as many are free; else all there are.

    To be entered before CUDA is used. A lease is a lock of the operating system, which ends with the process however
    that ends; it binds jobs of one user. Raises `KonerError` for a variable that names no GPU, or fewer than `count`.
    """
    given = os.environ.get(GPUS)
    if given is None:
        yield []
        return
    gpus = [name.strip() for name in given.split(",")]
    if not all(name.replace("-", "").isalnum() for name in gpus):
        raise KonerError(f"{GPUS}: '{given}' is not allowed; it must be GPUs with commas between, such as 0,1")
    if len(set(gpus)) < count:
        raise KonerError(f"{GPUS}: '{given}' names fewer GPUs than the {count} processes need")
    leases = _take(gpus, job, count)
    before = os.environ.get(_VISIBLE)
    try:
        os.environ[_VISIBLE] = ",".join(leases)
        yield list(leases)
    finally:
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before
        _release(leases)


def _take(gpus: Sequence[str], job: str, count: int) -> dict[str, FileLock]:
    folder = _folder()
    # Of a GPU that is named twice there are two leases.
    leases = [(gpu, FileLock(folder / f"gpu-{gpu}.{gpus[:i].count(gpu)}.lock")) for i, gpu in enumerate(gpus)]
    waits = False
    while True:
        taken: dict[str, FileLock] = {}
        for gpu, lease in leases:
            if len(taken) < count and gpu not in taken:
                with suppress(Timeout):
                    lease.acquire(timeout=0)
                    taken[gpu] = lease
        if len(taken) == count:
            return taken
        # Jobs that each kept a part of what they need would wait for each other.
        _release(taken)
        if not waits:
            print(f"{job}: waits for {count} of the GPUs {', '.join(gpus)}", flush=True)
            waits = True
        time.sleep(_POLL_SECONDS)


def _release(leases: Mapping[str, FileLock]) -> None:
    for lease in leases.values():
        lease.release()


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"koner-{os.getuid() if hasattr(os, 'getuid') else 'gpus'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
