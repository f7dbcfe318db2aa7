"""Child processes of the benchmarks: commands, services, and their memory."""

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
# PSS counts memory that workers share only once; only Linux reports it.
MEMORY_KIND = "PSS" if psutil.LINUX else "RSS"
_START_TIMEOUT = 300  # seconds
_STOP_TIMEOUT = 60  # seconds
_RETRY_INTERVAL = 0.02  # seconds
_LOG_LINES = 20


def run_command(
    command: Sequence[str], folder: Path = ROOT, environment: Mapping[str, str] | None = None, name: str = ""
) -> str:
    """Run a command to its end and return its standard output.

    Args:
        command: The command with its arguments.
        folder: The working folder.
        environment: Environment variables to add.
        name: The name of the command in the error message.

    Raises:
        KonerError: If the command fails, with the last line that it wrote.
    """
    completed = subprocess.run(  # noqa: S603
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )
    if completed.returncode:
        lines = (completed.stderr.strip() or completed.stdout.strip()).splitlines()
        reason = lines[-1].removeprefix("koner: ") if lines else f"status {completed.returncode}"
        raise KonerError(f"{name or command[0]} failed: {reason}")
    return completed.stdout


def run_module(
    module: str, *arguments: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Run `python -m MODULE` in a new process and return the JSON object of its last output line."""
    command = [sys.executable, "-m", module, *arguments]
    name = " ".join(["python -m", module, *arguments])
    output = run_command(command, folder, {"PYTHONPATH": str(ROOT), **(environment or {})}, name)
    figures: dict[str, object] = json.loads(output.splitlines()[-1])
    return figures


def peak_memory() -> int:
    """Return the peak memory (RSS) of this process in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Unlike the peak of getrusage, this one does not begin with the memory of the parent process.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def process_memory(process: psutil.Process) -> int:
    """Return the memory of a process of the kind `MEMORY_KIND` in bytes; 0 if it has ended."""
    try:
        return int(process.memory_full_info().pss if psutil.LINUX else process.memory_info().rss)
    except psutil.Error:
        return 0


def port_of(url: str) -> int:
    """Return the port of a URL that ends with it."""
    return int(url.rsplit(":", 1)[1])


def request_body(text: str | list[str]) -> bytes:
    """Return the body of a request to /infer with a text or a list of texts, as one line of JSON."""
    return json.dumps({"text": text}).encode()


def usual_command(model: Path, workers: int = 1, threads: int = 4) -> list[str]:
    """Return the command for `Service` that serves a model in the usual way: gunicorn over transformers' pipeline."""
    return gunicorn_command(f"benchmarks.usual_service:create_app({str(model)!r})", workers, threads)


def gunicorn_command(application: str, workers: int, threads: int) -> list[str]:
    """Return the command for `Service` that serves a Flask application with gunicorn."""
    options = [f"--workers={workers}", "--worker-class=gthread", f"--threads={threads}"]
    # Answers of a saturated service may take longer than gunicorn's default of 30 seconds.
    return ["gunicorn", *options, "--bind=127.0.0.1:{port}", f"--timeout={_START_TIMEOUT}", application]


@dataclass(frozen=True)
class Metrics:
    """The samples of /metrics, which the service sums over its workers."""

    samples: list[Sample]

    def total(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        return sum(sample.value for sample in self.samples if sample.name == name)

    def answers(self) -> Counter[int]:
        """Return the number of answers of POST /infer by status."""
        counts: Counter[int] = Counter()
        for sample in self.samples:
            labels = sample.labels
            if sample.name == "koner_requests_total" and (labels["method"], labels["path"]) == ("POST", "/infer"):
                counts[int(labels["status"])] += round(sample.value)
        return counts


class Service:
    """A service on the loopback interface, started on entry and stopped with its child processes on exit.

    Args:
        command: The arguments of `python -m`; `{port}` in them is replaced by the port, which is also in PORT.
        folder: The working folder.
        environment: Environment variables to add.

    Attributes:
        url: The address of the service.
        process: The main process.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._folder = folder
        self._environment = environment or {}

    def __enter__(self) -> Service:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile("w+b")
        self._start = time.perf_counter()
        self.process = psutil.Popen(
            [sys.executable, "-m", *(argument.format(port=port) for argument in self._command)],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOST": "127.0.0.1", "PORT": str(port), **self._environment},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        children = self._children()
        if self.process.poll() is None:
            self.process.terminate()
        _, alive = psutil.wait_procs([self.process, *children], _STOP_TIMEOUT)
        for process in alive:
            process.kill()
        self._log.close()

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer requests: the descendants without children."""
        children = self._children()
        parents = {process.ppid() for process in children}
        return [process for process in children if process.pid not in parents]

    def memory(self) -> int:
        """Return the memory of all processes of the service in bytes."""
        return sum(map(process_memory, [self.process, *self._children()]))

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes of the service so far, of user and system, in seconds."""
        times = [process.cpu_times() for process in (self.process, *self._children())]
        return sum(time.user + time.system for time in times)

    def log(self) -> str:
        """Return the last lines that the service wrote."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])

    def wait_for_answer(self, body: bytes) -> float:
        """Send a request until it is answered with 200, and return the seconds since the start of the service.

        Raises:
            KonerError: If the service ends or does not answer within 5 minutes, with its last lines; or if it answers
                with another status below 500.
        """
        while time.perf_counter() - self._start < _START_TIMEOUT and self.process.poll() is None:
            try:
                status, answer = self._request("POST", "/infer", body)
            except (OSError, http.client.HTTPException):
                time.sleep(_RETRY_INTERVAL)
                continue
            if status == http.HTTPStatus.OK:
                return time.perf_counter() - self._start
            if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise KonerError(f"POST /infer was answered with {status}: {answer[:500].decode(errors='replace')}")
            time.sleep(_RETRY_INTERVAL)
        raise KonerError(f"the service did not answer; its last lines:\n{self.log()}")

    def metrics(self) -> Metrics:
        """Return the current metrics."""
        text = self._request("GET", "/metrics")[1].decode()
        return Metrics([sample for family in text_string_to_metric_families(text) for sample in family.samples])

    def _children(self) -> list[psutil.Process]:
        try:
            return list(self.process.children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(self.url), timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class PeakMemory(threading.Thread):
    """A thread that watches the memory of a service; `peak` is the highest sum over its processes in bytes."""

    def __init__(self, service: Service, interval: float = 0.25) -> None:
        super().__init__(daemon=True)
        self._service, self._interval = service, interval
        self._stopped = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._stopped.wait(self._interval):
            self.peak = max(self.peak, self._service.memory())

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._stopped.set()
        self.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
