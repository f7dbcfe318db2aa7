"""Services that a benchmark starts, asks for their first answer, weighs and stops."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from koner.errors import KonerError

ROOT = Path(__file__).resolve().parent.parent
# Pages that workers share are counted once over all of them; only Linux tells.
MEMORY_KIND = "PSS" if psutil.LINUX else "RSS"
_LONGEST_START = 300  # seconds
_LONGEST_STOP = 60  # seconds


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def memory(process: psutil.Process) -> int:
    """A process's memory of `MEMORY_KIND`, bytes; 0 once it is gone."""
    try:
        return int(process.memory_full_info().pss if psutil.LINUX else process.memory_info().rss)
    except psutil.Error:
        return 0


def most_memory() -> int:
    """The most memory (RSS) that this process has had, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage's: on Linux that begins with the most of the process that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def port_in(url: str) -> int:
    """The port of an address on the loopback."""
    return int(url.rsplit(":", 1)[1])


@dataclass(frozen=True)
class Metrics:
    """The samples of /metrics, summed over all workers by the service itself."""

    samples: list[Sample]

    def total(self, name: str) -> float:
        """The sum of a metric over its labels."""
        return sum(sample.value for sample in self.samples if sample.name == name)

    def answers(self) -> Counter[int]:
        """The answers of POST /infer by status."""
        counted: Counter[int] = Counter()
        for sample in self.samples:
            labels = sample.labels
            if sample.name == "koner_requests_total" and (labels["method"], labels["path"]) == ("POST", "/infer"):
                counted[int(labels["status"])] += round(sample.value)
        return counted


class Service:
    """A service on the loopback, started on entry and stopped (with all it started) on exit.

    `command` is what follows `python -m`, `{port}` standing for the port, which the service also finds in PORT.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._folder = folder
        self._environment = environment or {}

    def __enter__(self) -> Service:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile("w+b")
        self.started = time.perf_counter()
        self.process = psutil.Popen(
            [sys.executable, "-m", *(part.format(port=port) for part in self._command)],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOST": "127.0.0.1", "PORT": str(port), **self._environment},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        below = self._below()
        if self.process.poll() is None:
            self.process.terminate()
        _, left = psutil.wait_procs([self.process, *below], _LONGEST_STOP)
        for process in left:
            process.kill()
        self._log.close()

    def workers(self) -> list[psutil.Process]:
        """The processes that answer: those below the one that was started that have none below themselves."""
        parents = {process.ppid() for process in self._below()}
        return [process for process in self._below() if process.pid not in parents]

    def memory(self) -> int:
        """The memory of all processes of the service, bytes."""
        return sum(map(memory, [self.process, *self._below()]))

    def _below(self) -> list[psutil.Process]:
        try:
            return list(self.process.children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def log(self) -> str:
        """The last lines that the service wrote."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-20:])

    def first_answer(self, body: bytes) -> float:
        """Asks until the service answers 200; gives the seconds since it was started.

        Raises `KonerError` with the service's last lines where it ends, or takes 5 minutes.
        """
        while time.perf_counter() - self.started < _LONGEST_START and self.process.poll() is None:
            try:
                status, answer = self._exchange("POST", "/infer", body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            if status == http.HTTPStatus.OK:
                return time.perf_counter() - self.started
            if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise KonerError(f"POST /infer was answered with {status}: {answer[:500].decode(errors='replace')}")
            time.sleep(0.02)
        raise KonerError(f"the service gave no answer; its last lines:\n{self.log()}")

    def metrics(self) -> Metrics:
        """What /metrics says now."""
        text = self._exchange("GET", "/metrics")[1].decode()
        return Metrics([sample for family in text_string_to_metric_families(text) for sample in family.samples])

    def _exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port_in(self.url), timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Peak(threading.Thread):
    """Watches the memory of a service and all it started; `most` is the highest sum seen, bytes."""

    def __init__(self, service: Service, every: float = 0.25) -> None:
        super().__init__(daemon=True)
        self._service, self._every = service, every
        self._done = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._done.wait(self._every):
            self.most = max(self.most, self._service.memory())

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._done.set()
        self.join()


def body_of(text: str) -> bytes:
    """The body of a request to /infer, one line of JSON."""
    return json.dumps({"text": text}).encode()
