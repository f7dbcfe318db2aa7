"""GPUs that several jobs on one machine share: each takes one that no other has."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from koner.errors import KonerError

# What CUDA_VISIBLE_DEVICES would take, with commas between: numbers or UUIDs. One named twice takes two jobs.
GPUS = "KONER_GPUS"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL_SECONDS = 1.0


@contextmanager
def leased_gpu(job: str) -> Iterator[str | None]:
    """Leaves this process one GPU of those in `KONER_GPUS`, waiting until one is free; without the variable, all.

    To be entered before CUDA is used. The lease is a lock of the operating system, which ends with the process
    however that ends; it binds jobs of one user. Raises `KonerError` for a variable that names no GPU.
    """
    given = os.environ.get(GPUS)
    if given is None:
        yield None
        return
    gpus = [name.strip() for name in given.split(",")]
    if not all(name.replace("-", "").isalnum() for name in gpus):
        raise KonerError(f"{GPUS}: '{given}' is not allowed; it must be GPUs with commas between, such as 0,1")
    lease, gpu = _take(gpus, job)
    before = os.environ.get(_VISIBLE)
    try:
        os.environ[_VISIBLE] = gpu
        yield gpu
    finally:
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before
        lease.release()


def _take(gpus: Sequence[str], job: str) -> tuple[FileLock, str]:
    folder = _folder()
    # Of a GPU that is named twice there are two leases.
    leases = [(FileLock(folder / f"gpu-{gpu}.{gpus[:i].count(gpu)}.lock"), gpu) for i, gpu in enumerate(gpus)]
    waits = False
    while True:
        for lease, gpu in leases:
            try:
                lease.acquire(timeout=0)
            except Timeout:
                continue
            return lease, gpu
        if not waits:
            print(f"{job}: waits for one of the GPUs {', '.join(gpus)}", flush=True)
            waits = True
        time.sleep(_POLL_SECONDS)


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"koner-{os.getuid() if hasattr(os, 'getuid') else 'gpus'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
