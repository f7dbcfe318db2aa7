"""Whether the service holds out: python -m benchmarks.soak [--minutes 15] | --kill | --term

Measures what the service can answer (16 clients that ask again when answered), then asks twice as much at a fixed rate
and accounts for every request: answered with 200, or refused with 503 because the queue is full, and counted by
/metrics as often as here. By default it goes on for minutes and watches the memory of every worker; with --kill it
kills a worker with SIGKILL, with --term it stops the service with SIGTERM. The service is `python -m app` of this
checkout, with the settings that the environment gives it (WORKERS, KONER_QUEUE_TOKENS, ...); client and service share
the machine. Ends with status 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.load import Load, Outcome
from benchmarks.material import add_options, read_material
from benchmarks.processes import MEMORY_KIND, ROOT, Service, body_of, memory, port_in
from benchmarks.reporting import machine, table
from koner.errors import KonerError, told_plainly

_CLIENTS = 16
_BEFORE_SIGNAL = 10  # seconds under load
_AFTER_KILL = 20  # seconds under load
_LONGEST_STOP = 150  # seconds
_MIB = 2**20

Rows = list[tuple[str, object]]


@dataclass(frozen=True)
class Run:
    """A service under load, and what the load is: bodies, requests a second."""

    service: Service
    bodies: list[bytes]
    rate: float


@dataclass
class Samples:
    """A process's memory over time: seconds since the load began, MiB."""

    seconds: list[float]
    mebibytes: list[float]

    def row(self) -> list[str]:
        """The memory at the start, after each quarter and at the end, and its slope once the first quarter is over."""
        at = [round(share * (len(self.seconds) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)]
        seconds, mebibytes = self.seconds[at[1] :], self.mebibytes[at[1] :]
        slope = np.polyfit(seconds, mebibytes, 1)[0] * 3600 if len(seconds) > 1 else 0.0
        return [*(f"{self.mebibytes[i]:.1f}" for i in at), f"{slope:+.1f}"]


async def capacity(service: Service, bodies: list[bytes], seconds: float) -> float:
    """What the service can answer, requests a second; the first quarter of the time is warming up."""
    async with Load(service.url, bodies) as load:
        await load.closed(_CLIENTS, seconds / 4)
        answered = await load.closed(_CLIENTS, seconds)
    if load.outcome.neither or not answered:
        raise KonerError(f"{_CLIENTS} clients are too many for the service: {fates(load.outcome)}")
    return answered


async def soak(run: Run, seconds: float) -> tuple[Rows, list[str]]:
    """Asks for `seconds`, watching memory; gives figures, and what did not hold."""
    samples = {process.pid: Samples([], []) for process in run.service.workers()}
    before = run.service.metrics().answers()
    start = time.perf_counter()

    async def watch() -> None:
        while True:
            for process in run.service.workers():
                seen = samples.setdefault(process.pid, Samples([], []))
                seen.seconds.append(time.perf_counter() - start)
                seen.mebibytes.append(memory(process) / _MIB)
            await asyncio.sleep(min(5.0, seconds / 20))

    async with Load(run.service.url, run.bodies) as load:
        watching = asyncio.create_task(watch())
        await load.at_rate(run.rate, seconds)
        watching.cancel()
    took = time.perf_counter() - start
    outcome, counted = load.outcome, run.service.metrics().answers()
    counted.subtract(before)
    print(table([f"worker, MiB ({MEMORY_KIND})", "start", "1/4", "1/2", "3/4", "end", "MiB an hour"],
                [[f"{pid}", *seen.row()] for pid, seen in samples.items()]), "\n")  # fmt: skip
    failed = []
    if outcome.neither:
        failed.append(f"{outcome.neither} requests were answered with neither 200 nor 503")
    if not outcome.refused:
        failed.append("no request was refused, at more than the service can answer")
    if +counted != +outcome.statuses:
        failed.append(f"/metrics counted {dict(+counted)} where {dict(outcome.statuses)} were answered")
    if len(samples) != len(run.service.workers()):
        failed.append("a worker was replaced")
    latencies = np.array(outcome.latencies) * 1000
    rows: Rows = [
        ("seconds", f"{took:.0f}"),
        ("asked", outcome.sent),
        ("answered with 200", outcome.ok),
        ("200s a second", f"{outcome.ok / took:.1f}"),
        ("refused with 503", outcome.refused),
        ("anything else", fates(outcome, but=(200, 503))),
        ("held back, 1,000 being in flight", outcome.held_back),
        ("counted by /metrics", ", ".join(f"{status}: {n}" for status, n in sorted((+counted).items()))),
        ("p50 of the 200s, ms", f"{np.percentile(latencies, 50):.0f}" if len(latencies) else "-"),
        ("p99 of the 200s, ms", f"{np.percentile(latencies, 99):.0f}" if len(latencies) else "-"),
    ]
    return rows, failed


async def kill(run: Run) -> tuple[Rows, list[str]]:
    """Kills a worker under load; gives figures, and what did not hold."""
    replaced: list[float] = []
    accepting: list[float] = []
    first_ok: list[float] = []
    killed = in_flight = 0.0

    def on_ok(sent: float) -> None:
        if killed and sent > killed and not first_ok:
            first_ok.append(time.perf_counter() - killed)

    async with Load(run.service.url, run.bodies, keep_alive=False) as load:
        load.on_ok = on_ok
        asking = asyncio.create_task(load.at_rate(run.rate, _BEFORE_SIGNAL + _AFTER_KILL + 600))
        await asyncio.sleep(_BEFORE_SIGNAL)
        old = {process.pid for process in run.service.workers()}
        in_flight = len(load.in_flight)
        os.kill(min(old), signal.SIGKILL)
        killed = time.perf_counter()
        while time.perf_counter() - killed < _AFTER_KILL or not (accepting and first_ok):
            for process in run.service.workers():
                if process.pid not in old:
                    replaced = replaced or [time.perf_counter() - killed]
                    if not accepting and holds_connections(process, port_in(run.service.url)):
                        accepting.append(time.perf_counter() - killed)
            await asyncio.sleep(0.02)
            if time.perf_counter() - killed > _LONGEST_STOP:
                break
        load.stop()
        await asking
    outcome = load.outcome
    late = sum(sent > killed for sent in outcome.broken)
    failed = []
    if late:
        failed.append(f"{late} requests that were sent after the kill got no answer")
    if not accepting:
        failed.append("the killed worker was not replaced")
    if outcome.neither > outcome.errors.total():
        failed.append(f"there were answers other than 200 and 503: {fates(outcome, but=(200, 503))}")
    rows: Rows = [
        ("workers", len(old)),
        ("asked", outcome.sent),
        ("answered with 200, refused with 503", f"{outcome.ok}, {outcome.refused}"),
        ("in flight at the kill", in_flight),
        ("got no answer, sent before the kill", len(outcome.broken) - late),
        ("got no answer, sent after the kill", late),
        ("new process after, s", f"{replaced[0]:.2f}" if replaced else "-"),
        ("new process takes requests after, s", f"{accepting[0]:.2f}" if accepting else "-"),
        ("first 200 to a request sent after the kill, s", f"{first_ok[0]:.2f}" if first_ok else "-"),
    ]
    return rows, failed


async def term(run: Run) -> tuple[Rows, list[str]]:
    """Stops the service under load by SIGTERM; gives figures, and what did not hold."""
    async with Load(run.service.url, run.bodies) as load:
        asking = asyncio.create_task(load.at_rate(run.rate, _BEFORE_SIGNAL + 1))
        await asyncio.sleep(_BEFORE_SIGNAL)
        load.stop()
        # Lets what is due be sent.
        await asyncio.sleep(0)
        in_flight, before = len(load.in_flight), load.outcome.sent
        below = run.service.workers()
        run.service.process.terminate()
        at = time.perf_counter()
        await asking
        answered = time.perf_counter() - at
        status = await asyncio.to_thread(run.service.process.wait, _LONGEST_STOP)
        stopped = time.perf_counter() - at
    outcome = load.outcome
    left = [process.pid for process in below if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    failed = []
    if outcome.broken:
        failed.append(f"{len(outcome.broken)} requests that were in flight got no answer: {dict(outcome.errors)}")
    if left or status:
        failed.append(f"the service ended with status {status} and left {len(left)} processes")
    rows: Rows = [
        ("in flight at the signal", in_flight),
        ("of them answered", outcome.sent - before - len(outcome.broken)),
        ("of them without an answer", len(outcome.broken)),
        ("last answer after, s", f"{answered:.2f}"),
        ("service ended after, s", f"{stopped:.2f}"),
        ("exit status", status),
    ]
    return rows, failed


def holds_connections(process: psutil.Process, port: int) -> bool:
    """Tells whether a process has taken a connection to `port`."""
    try:
        return any(c.laddr and c.laddr.port == port and c.raddr for c in process.net_connections("tcp"))
    except psutil.Error:
        return False


def fates(outcome: Outcome, but: tuple[int, ...] = ()) -> str:
    """What requests met with, statuses and errors, in words."""
    met = {str(status): n for status, n in outcome.statuses.items() if status not in but} | outcome.errors
    return ", ".join(f"{what}: {n}" for what, n in met.items()) or "none"


async def measure(arguments: argparse.Namespace, bodies: list[bytes], mode: str) -> list[str]:
    """Starts the service, runs one of the three ways, prints its figures; gives what did not hold."""
    environment = {"KONER_MODEL": str(arguments.model.resolve())}
    if arguments.unlocked:
        environment["KONER_ALLOW_UNLOCKED"] = "true"
    with Service(["app"], ROOT, environment) as service:
        service.first_answer(bodies[0])
        can = await capacity(service, bodies, arguments.capacity_seconds)
        run = Run(service, bodies, can * arguments.overload)
        print(f"\n## {mode}: {can:.1f} answers a second with {_CLIENTS} clients, {run.rate:.1f} asked from here on\n")
        match mode:
            case "kill":
                rows, failed = await kill(run)
            case "term":
                rows, failed = await term(run)
            case _:
                rows, failed = await soak(run, arguments.minutes * 60)
    print(table([mode, "figure"], rows), flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--kill", action="store_true", help="kill a worker instead")
    parser.add_argument("--term", action="store_true", help="stop the service instead")
    parser.add_argument("--overload", type=float, default=2.0, help="times what the service can answer (2)")
    parser.add_argument("--capacity-seconds", type=float, default=20)
    parser.add_argument("--model", type=Path, default=Path("models/ner"))
    parser.add_argument("--unlocked", action="store_true", help="the model is none that dvc.lock pins")
    add_options(parser, sentences=2000)
    arguments = parser.parse_args()
    bodies = [body_of(text) for text in read_material(arguments).texts]
    print(f"{machine()}, shared by client and service; {len(bodies)} sentences in turn")
    modes = [mode for mode in ("kill", "term") if getattr(arguments, mode)] or ["soak"]
    failed = [f"{mode}: {what}" for mode in modes for what in asyncio.run(measure(arguments, bodies, mode))]
    if failed:
        raise KonerError("; ".join(failed))


if __name__ == "__main__":
    with told_plainly():
        main()
