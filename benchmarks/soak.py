"""Test the service under overload, and when a worker is killed or the service is stopped.

    python -m benchmarks.soak [--minutes 15]
    python -m benchmarks.soak --kill --term

Measures how many requests per second the service can answer (16 clients in a closed loop), then sends twice as many at
a fixed rate and accounts for every request: it must be answered with 200, or refused with 503 because the queue is
full, and /metrics must count the same. By default this goes on for minutes while the memory of every worker is watched.
--kill kills a worker with SIGKILL instead, --term stops the service with SIGTERM.

The service is `python -m app` of this checkout with the settings of the environment (WORKERS, KONER_QUEUE_TOKENS, ...);
client and service share the machine. Prints the figures, and exits with status 1 if an expectation failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.load import MAX_IN_FLIGHT, Load, Outcome
from benchmarks.processes import MEMORY_KIND, ROOT, Service, port_of, process_memory, request_body
from benchmarks.reporting import MIB, describe_machine, format_table, make_parser, positive_number
from benchmarks.sentences import add_options, read_sentences
from koner.errors import KonerError, exit_on_error

_CLIENTS = 16
_SECONDS_BEFORE_SIGNAL = 10
_SECONDS_AFTER_KILL = 20
_TIMEOUT = 150  # seconds for a new worker, or for the end of the service
_POLL_INTERVAL = 0.02  # seconds
_EXPECTED_STATUSES = (200, 503)

Rows = list[tuple[str, object]]
# The rows of a table, and the expectations that failed.
Report = tuple[Rows, list[str]]


@dataclass(frozen=True)
class Run:
    """A service and its load: the request bodies, and the requests per second."""

    service: Service
    bodies: list[bytes]
    rate: float


@dataclass
class MemorySamples:
    """The memory of a process over time: seconds since the start of the load, MiB."""

    seconds: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)

    def to_row(self) -> list[str]:
        """Return the memory at the start, after each quarter and at the end, and its slope after the first quarter."""
        quarters = [round(share * (len(self.seconds) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)]
        seconds, mebibytes = self.seconds[quarters[1] :], self.mebibytes[quarters[1] :]
        slope = np.polyfit(seconds, mebibytes, 1)[0] * 3600 if len(seconds) > 1 else 0.0
        return [*(f"{self.mebibytes[i]:.1f}" for i in quarters), f"{slope:+.1f}"]


class MemoryWatch:
    """The memory of every worker of a service, sampled until the task that runs `watch` is cancelled."""

    def __init__(self, service: Service, interval: float) -> None:
        self._service, self._interval = service, interval
        self._start = time.perf_counter()
        self.samples = {process.pid: MemorySamples() for process in service.workers()}

    async def watch(self) -> None:
        """Sample the memory of the workers at an interval."""
        while True:
            for process in self._service.workers():
                samples = self.samples.setdefault(process.pid, MemorySamples())
                samples.seconds.append(time.perf_counter() - self._start)
                samples.mebibytes.append(process_memory(process) / MIB)
            await asyncio.sleep(self._interval)

    def format(self) -> str:
        """Format the memory of each worker as a Markdown table."""
        head = [f"worker, MiB ({MEMORY_KIND})", "start", "1/4", "1/2", "3/4", "end", "MiB per hour"]
        return format_table(head, [[str(pid), *samples.to_row()] for pid, samples in self.samples.items()])


@dataclass
class KillTimes:
    """The time of a kill (perf_counter), and the seconds after it until the service recovered."""

    killed: float = 0.0
    replaced: float | None = None
    accepting: float | None = None
    first_ok: float | None = None

    def elapsed(self) -> float:
        """Return the seconds since the kill."""
        return time.perf_counter() - self.killed

    def note_ok(self, sent: float) -> None:
        """Note the first answer with status 200 to a request that was sent after the kill."""
        if self.killed and sent > self.killed and self.first_ok is None:
            self.first_ok = self.elapsed()

    def note_worker(self, process: psutil.Process, port: int) -> None:
        """Note a new worker, and whether it accepts connections."""
        if self.replaced is None:
            self.replaced = self.elapsed()
        if self.accepting is None and has_connection(process, port):
            self.accepting = self.elapsed()


async def measure_capacity(service: Service, bodies: list[bytes], seconds: float) -> float:
    """Return the answers per second of a closed loop, after a warm-up of a quarter of the time."""
    async with Load(service.url, bodies) as load:
        await load.run_closed_loop(_CLIENTS, seconds / 4)
        rate = await load.run_closed_loop(_CLIENTS, seconds)
    if load.outcome.unexpected or not rate:
        raise KonerError(f"the service can't serve {_CLIENTS} clients: {format_outcome(load.outcome)}")
    return rate


async def soak(run: Run, seconds: float) -> Report:
    """Keep the service under load while the memory of its workers is watched."""
    watch = MemoryWatch(run.service, min(5.0, seconds / 20))
    answers_before = run.service.metrics().answers()
    start = time.perf_counter()
    async with Load(run.service.url, run.bodies) as load:
        watching = asyncio.create_task(watch.watch())
        await load.run_at_rate(run.rate, seconds)
        watching.cancel()
    duration = time.perf_counter() - start
    outcome, counted = load.outcome, run.service.metrics().answers()
    counted.subtract(answers_before)
    print(watch.format(), "\n")
    failures = []
    if outcome.unexpected:
        failures.append(f"{outcome.unexpected} requests were answered with neither 200 nor 503")
    if not outcome.refused:
        failures.append("no request was refused under overload")
    if +counted != +outcome.statuses:
        failures.append(f"/metrics counted {dict(+counted)}, but the answers were {dict(outcome.statuses)}")
    if len(watch.samples) != len(run.service.workers()):
        failures.append("a worker was replaced")
    latencies = np.array(outcome.latencies) * 1000
    rows: Rows = [
        ("seconds", f"{duration:.0f}"),
        ("requests", outcome.sent),
        ("answered with 200", outcome.ok),
        ("200s per second", f"{outcome.ok / duration:.1f}"),
        ("refused with 503", outcome.refused),
        ("other", format_outcome(outcome, exclude=_EXPECTED_STATUSES)),
        (f"held back, because {MAX_IN_FLIGHT:,} were in flight", outcome.held_back),
        ("counted by /metrics", ", ".join(f"{status}: {n}" for status, n in sorted((+counted).items()))),
        ("p50 of the 200s, ms", f"{np.percentile(latencies, 50):.0f}" if len(latencies) else "-"),
        ("p99 of the 200s, ms", f"{np.percentile(latencies, 99):.0f}" if len(latencies) else "-"),
    ]
    return rows, failures


async def kill(run: Run) -> Report:
    """Kill a worker under load and wait until the service has recovered."""
    times = KillTimes()
    async with Load(run.service.url, run.bodies, keep_alive=False) as load:
        load.on_ok = times.note_ok
        # Longer than any test, because `stop` ends it.
        requests = asyncio.create_task(load.run_at_rate(run.rate, 1e6))
        await asyncio.sleep(_SECONDS_BEFORE_SIGNAL)
        old_workers = {process.pid for process in run.service.workers()}
        in_flight = len(load.in_flight)
        os.kill(min(old_workers), signal.SIGKILL)
        times.killed = time.perf_counter()
        while times.elapsed() < _SECONDS_AFTER_KILL or times.accepting is None or times.first_ok is None:
            for process in run.service.workers():
                if process.pid not in old_workers:
                    times.note_worker(process, port_of(run.service.url))
            await asyncio.sleep(_POLL_INTERVAL)
            if times.elapsed() > _TIMEOUT:
                break
        load.stop()
        await requests
    outcome = load.outcome
    unanswered_later = sum(sent > times.killed for sent in outcome.unanswered)
    failures = []
    if unanswered_later:
        failures.append(f"{unanswered_later} requests that were sent after the kill got no answer")
    if times.accepting is None:
        failures.append("the killed worker was not replaced")
    if outcome.unexpected > outcome.errors.total():
        other = format_outcome(outcome, exclude=_EXPECTED_STATUSES)
        failures.append(f"there were answers other than 200 and 503: {other}")
    rows: Rows = [
        ("workers", len(old_workers)),
        ("requests", outcome.sent),
        ("answered with 200, refused with 503", f"{outcome.ok}, {outcome.refused}"),
        ("in flight at the kill", in_flight),
        ("no answer, sent before the kill", len(outcome.unanswered) - unanswered_later),
        ("no answer, sent after the kill", unanswered_later),
        ("new process after, s", format_seconds(times.replaced)),
        ("new process accepts requests after, s", format_seconds(times.accepting)),
        ("first 200 to a request sent after the kill, s", format_seconds(times.first_ok)),
    ]
    return rows, failures


async def term(run: Run) -> Report:
    """Stop the service under load by SIGTERM."""
    async with Load(run.service.url, run.bodies) as load:
        requests = asyncio.create_task(load.run_at_rate(run.rate, _SECONDS_BEFORE_SIGNAL + 1))
        await asyncio.sleep(_SECONDS_BEFORE_SIGNAL)
        load.stop()
        # Let the requests that are due be sent.
        await asyncio.sleep(0)
        in_flight, sent_before = len(load.in_flight), load.outcome.sent
        workers = run.service.workers()
        run.service.process.terminate()
        stop_time = time.perf_counter()
        await requests
        last_answer = time.perf_counter() - stop_time
        status = await asyncio.to_thread(run.service.process.wait, _TIMEOUT)
        stopped = time.perf_counter() - stop_time
    outcome = load.outcome
    alive = [process.pid for process in workers if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    failures = []
    if outcome.unanswered:
        failures.append(f"{len(outcome.unanswered)} requests in flight got no answer: {dict(outcome.errors)}")
    if alive or status:
        failures.append(f"the service ended with status {status} and left {len(alive)} processes")
    rows: Rows = [
        ("in flight at the signal", in_flight),
        ("of these answered", outcome.sent - sent_before - len(outcome.unanswered)),
        ("of these without an answer", len(outcome.unanswered)),
        ("last answer after, s", f"{last_answer:.2f}"),
        ("service ended after, s", f"{stopped:.2f}"),
        ("exit status", status),
    ]
    return rows, failures


def has_connection(process: psutil.Process, port: int) -> bool:
    """Return whether a process has accepted a connection on a port."""
    try:
        return any(c.laddr and c.laddr.port == port and c.raddr for c in process.net_connections("tcp"))
    except psutil.Error:
        return False


def format_outcome(outcome: Outcome, exclude: tuple[int, ...] = ()) -> str:
    """Format the number of answers by status and of errors, without some statuses."""
    counts = {str(status): n for status, n in outcome.statuses.items() if status not in exclude} | outcome.errors
    return ", ".join(f"{name}: {n}" for name, n in counts.items()) or "none"


def format_seconds(seconds: float | None) -> str:
    """Format seconds, or a dash if the event did not happen."""
    return "-" if seconds is None else f"{seconds:.2f}"


async def run_mode(arguments: argparse.Namespace, bodies: list[bytes], mode: str) -> list[str]:
    """Start the service, run one of the three tests, print its figures, and return the failed expectations."""
    environment = {"KONER_MODEL": str(arguments.model.resolve())}
    if arguments.unlocked:
        environment["KONER_ALLOW_UNLOCKED"] = "true"
    with Service(["app"], ROOT, environment) as service:
        service.wait_for_answer(bodies[0])
        capacity = await measure_capacity(service, bodies, arguments.capacity_seconds)
        run = Run(service, bodies, capacity * arguments.overload)
        rates = f"{capacity:.1f} answers per second with {_CLIENTS} clients, now {run.rate:.1f} requests per second"
        print(f"\n## {mode}: {rates}\n")
        match mode:
            case "kill":
                rows, failures = await kill(run)
            case "term":
                rows, failures = await term(run)
            case _:
                rows, failures = await soak(run, arguments.minutes * 60)
    print(format_table([mode, "figure"], rows), flush=True)
    return failures


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--minutes", type=positive_number, default=15, help="duration of the load (default: %(default)s)"
    )
    parser.add_argument("--kill", action="store_true", help="kill a worker instead")
    parser.add_argument("--term", action="store_true", help="stop the service instead")
    parser.add_argument(
        "--overload",
        type=positive_number,
        default=2.0,
        help="request rate as a multiple of the capacity (default: %(default)s)",
    )
    parser.add_argument(
        "--capacity-seconds",
        type=positive_number,
        default=20,
        help="duration of the first measurement (default: %(default)s)",
    )
    parser.add_argument("--model", type=Path, default=Path("models/ner"), help="folder of the model")
    parser.add_argument("--unlocked", action="store_true", help="allow a model that dvc.lock does not pin")
    add_options(parser, sentences=2000)
    arguments = parser.parse_args()
    bodies = [request_body(text) for text in read_sentences(arguments).texts]
    print(f"{describe_machine()}, shared by client and service; {len(bodies)} sentences in turn")
    modes = [mode for mode in ("kill", "term") if getattr(arguments, mode)] or ["soak"]
    failures = [f"{mode}: {failure}" for mode in modes for failure in asyncio.run(run_mode(arguments, bodies, mode))]
    if failures:
        raise KonerError("; ".join(failures))


if __name__ == "__main__":
    with exit_on_error():
        main()
