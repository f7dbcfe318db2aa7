"""Several processes that train one model: how they are started, and what they have to tell each other.

A process has one GPU, or a share of a machine's cores. Torch's elastic launcher (what `torchrun` runs) starts them,
finds a free port for them to meet at, and ends the rest when one fails.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from koner.errors import KonerError

RENDEZVOUS = "KONER_RENDEZVOUS"
# The process that launched this one; set only by `launch`.
_LAUNCHER = "KONER_LAUNCHER"
_GOES_ON = "the same command goes on from the last checkpoint"
_SECONDS_TO_MEET = 900

Value = TypeVar("Value")


def launched() -> bool:
    """Tells whether a launcher, this one or another (torchrun, `accelerate launch`), started this process."""
    return {"LOCAL_RANK", "RANK", "WORLD_SIZE"} <= os.environ.keys()


def launch(module: str, processes: int, machines: int = 1) -> None:
    """Runs `python -m module` in `processes` processes on this machine; returns when all have ended well.

    Each of several machines calls it; they meet at a free port of the first, told to all as HOST:PORT in the
    environment variable KONER_RENDEZVOUS. Standard error is shown when the processes have ended: that of the first, or
    of the one that failed. Raises `KonerError` where one fails or is killed, where there are more processes than GPUs,
    and where the machines do not meet.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise KonerError(f"processes: {processes} is not allowed: this machine has {gpus} GPU{'s' * (gpus > 1)}")
    endpoint, address = _meeting_point(machines)
    settings = {
        _LAUNCHER: str(os.getpid()),
        # Of DDP looking for parameters that a model does not use: most use all.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // processes))),
    }
    with tempfile.TemporaryDirectory(prefix="koner-") as folder, _environment(settings), _no_logging():
        config = LaunchConfig(
            min_nodes=machines,
            max_nodes=machines,
            nproc_per_node=processes,
            run_id="koner" if machines > 1 else uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint,
            rdzv_configs={
                "timeout": _SECONDS_TO_MEET,
                "join_timeout": _SECONDS_TO_MEET,
                "read_timeout": _SECONDS_TO_MEET,
            },
            local_addr=address,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder, redirects=Std.ERR),
        )
        try:
            elastic_launch(config, sys.executable)("-u", "-m", module)
        except ChildFailedError as error:
            raise KonerError(_told_of(error.failures, Path(folder))) from None
        except SignalException as error:
            raise KonerError(f"stopped by {error.sigval.name}; {_GOES_ON}") from None
        except RendezvousError as error:
            raise KonerError(f"{RENDEZVOUS}: the machines did not meet at {endpoint}: {error}") from None
        sys.stderr.write(_standard_error(Path(folder), 0))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _meeting_point(machines: int) -> tuple[str, str]:
    """The address where the launchers meet, and this machine's own as the others see it."""
    if machines == 1:
        return "localhost:0", "localhost"
    endpoint = os.environ.get(RENDEZVOUS, "")
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise KonerError(
            f"machines: {machines} need the address of the first of them in the environment variable {RENDEZVOUS}, "
            f"such as node1:29500; it is {endpoint!r}"
        )
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sender:
            # Sends nothing; the system chooses the interface.
            sender.connect(address)
            return endpoint, str(sender.getsockname()[0])
    except OSError as error:
        raise KonerError(f"{RENDEZVOUS}: {host} can't be reached: {error.strerror}") from None


def _standard_error(folder: Path, local_rank: int) -> str:
    # Below a folder that the launcher names.
    found = folder.rglob(f"{local_rank}/stderr.log")
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in found)


def _told_of(failures: dict[int, Any], folder: Path) -> str:
    # Those that the launcher stopped are among them; and one that lost a killed one may have told its loss first.
    number, failure = min(
        failures.items(),
        key=lambda item: (item[1].exitcode == -signal.SIGTERM, item[1].exitcode >= 0, item[1].timestamp, item[0]),
    )
    if failure.exitcode < 0:
        return f"process {number} was ended by {failure.signal_name()}; the others were stopped, and {_GOES_ON}"
    told = _standard_error(folder, failure.local_rank)
    last = told.rstrip().rpartition("\n")[2]
    if last.startswith("koner: "):
        return last.removeprefix("koner: ")
    sys.stderr.write(told)
    return f"process {number} failed with status {failure.exitcode}, as told above; the others were stopped"


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _no_logging() -> Iterator[None]:
    """What the launcher logs of a failure is told in a sentence instead."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def joined(processes: int) -> Iterator[None]:
    """Makes this process one of `processes` that train together, as its launcher numbered them; of 1 does nothing.

    Raises `KonerError` where the launcher started another number, and where the others are lost on the way.
    """
    started = int(os.environ["WORLD_SIZE"]) if launched() else 1
    if started != processes:
        raise KonerError(
            f"processes: {started} were started, but params.yaml asks for {processes} (processes times machines)"
        )
    if processes == 1:
        yield
        return
    if _LAUNCHER in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[_LAUNCHER]),), daemon=True).start()
    PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(minutes=30))
    try:
        yield
    except RuntimeError as error:
        # Gloo's errors have no class of their own.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise KonerError(f"process {dist.get_rank()} lost contact with another; {_GOES_ON}") from None
    dist.destroy_process_group()


def _end_with(launcher: int) -> None:
    # A launcher that was killed outright can't stop its processes, and two runs would write the same checkpoints.
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def rank() -> int:
    """This process's number among those that train together, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together, this one included."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Returns when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def told_by_first(value: Value) -> Value:
    """The first process's value, in every process."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def told_by_all(value: Value) -> list[Value]:
    """The value of every process, in their order."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def must_agree(values: dict[str, Any]) -> None:
    """Raises `KonerError` in every process, naming what differs, unless all have the same values."""
    first, *others = told_by_all(values)
    for i, told in enumerate(others, start=1):
        for name, value in first.items():
            if told[name] != value:
                raise KonerError(
                    f"{name} of process {i} is not that of process 0: all machines need the same commit and data"
                )


def must_share(folder: Path) -> None:
    """Raises `KonerError` in every process unless all see the same folder, which is made where there is none."""
    name = told_by_first(f".{uuid.uuid4().hex}")
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    wait()
    seen = told_by_all((folder / name).exists())
    if rank() == 0:
        (folder / name).unlink()
    if not all(seen):
        raise KonerError(
            f"{folder} of process {seen.index(False)} is not that of process 0: "
            "the project must lie in a folder that all machines share"
        )
