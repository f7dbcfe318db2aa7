"""The launcher of the processes of distributed training on one machine.

Torch's elastic launcher (which `torchrun` runs) starts the processes, finds a free port for their rendezvous, and stops
the others when one fails. A process has one GPU, or a share of the machine's cores.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from koner.errors import KonerError
from koner.hardware import usable_cores
from koner.storage.workspace import LAUNCHER_PID

RENDEZVOUS = "KONER_RENDEZVOUS"
RESUME_HINT = "the same command resumes from the last checkpoint"
_RENDEZVOUS_SECONDS = 900


def is_launched() -> bool:
    """Return whether a launcher (`launch`, torchrun or `accelerate launch`) started this process."""
    return {"LOCAL_RANK", "RANK", "WORLD_SIZE"} <= os.environ.keys()


def launch(module: str, processes: int, machines: int = 1) -> None:
    """Run `python -m module` in several processes on this machine, and return when all have succeeded.

    With several machines, each of them calls this function. Standard error is written at the end: that of the first
    process, or that of the process that failed.

    Args:
        module: The module to run.
        processes: The number of processes on this machine.
        machines: The number of machines. They meet at a free port of the first one, which the environment variable
            KONER_RENDEZVOUS gives as HOST:PORT on all of them.

    Raises:
        KonerError: If a process fails or is killed, if the machine has fewer GPUs than processes, or if the machines
            do not connect within 15 minutes.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise KonerError(f"processes: {processes} is not allowed: this machine has {gpus} GPU{'s' * (gpus > 1)}")
    endpoint, address = _rendezvous_addresses(machines)
    variables = {
        LAUNCHER_PID: str(os.getpid()),
        # DDP logs a warning that all parameters of the model are used.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, usable_cores() // processes))),
    }
    with tempfile.TemporaryDirectory(prefix="koner-") as logs, _environment(variables), _no_logging():
        config = _launch_config(processes, machines, endpoint, address, logs)
        try:
            elastic_launch(config, sys.executable)("-u", "-m", module)
        except ChildFailedError as error:
            raise KonerError(_failure_message(error.failures, Path(logs))) from None
        except SignalException as error:
            raise KonerError(f"stopped by {error.sigval.name}; {RESUME_HINT}") from None
        except RendezvousError as error:
            raise KonerError(f"{RENDEZVOUS}: the machines did not connect at {endpoint}: {error}") from None
        sys.stderr.write(_standard_error(Path(logs), 0))


def _launch_config(processes: int, machines: int, endpoint: str, address: str, logs: str) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=machines,
        max_nodes=machines,
        nproc_per_node=processes,
        run_id="koner" if machines > 1 else uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        rdzv_configs=dict.fromkeys(("timeout", "join_timeout", "read_timeout"), _RENDEZVOUS_SECONDS),
        local_addr=address,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(logs, redirects=Std.ERR),
    )


def _rendezvous_addresses(machines: int) -> tuple[str, str]:
    """Return the endpoint of the rendezvous, and this machine's own address as the others see it."""
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
            # A datagram socket sends nothing here, but the system selects the interface that reaches the host.
            sender.connect(address)
            return endpoint, str(sender.getsockname()[0])
    except OSError as error:
        raise KonerError(f"{RENDEZVOUS}: {host} can't be reached: {error.strerror}") from None


def _failure_message(failures: dict[int, Any], logs: Path) -> str:
    """Return one sentence about the process that failed first; write its standard error if it has no such sentence."""
    # The launcher stopped the others with SIGTERM; and if one was killed, another may have reported its loss earlier.
    failed_rank, failure = min(
        failures.items(),
        key=lambda item: (item[1].exitcode == -signal.SIGTERM, item[1].exitcode >= 0, item[1].timestamp, item[0]),
    )
    if failure.exitcode < 0:
        return f"process {failed_rank} was ended by {failure.signal_name()}; the others were stopped, and {RESUME_HINT}"
    output = _standard_error(logs, failure.local_rank)
    last_line = output.rstrip().rpartition("\n")[2]
    if last_line.startswith("koner: "):
        return last_line.removeprefix("koner: ")
    sys.stderr.write(output)
    return f"process {failed_rank} failed with status {failure.exitcode}, for the reason above; the others were stopped"


def _standard_error(logs: Path, local_rank: int) -> str:
    # The launcher gives the folder in between a random name.
    paths = logs.rglob(f"{local_rank}/stderr.log")
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _no_logging() -> Iterator[None]:
    # The launcher logs a failure at length; the error raised here says the same in a sentence.
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
