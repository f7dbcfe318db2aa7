"""The service against the usual way: python -m benchmarks.serving [--source FOLDER] [--config FOLDER]

Both serve one model of klue/roberta-base's shape with random weights, one after the other on the same cores, which they
share with the load generator (wrk): (a) `usual`: gunicorn over a Flask route that calls transformers' pipeline;
(b) `koner`: `python -m app` on the folder as the export stage writes it. wrk's clients each ask again as soon as they
are answered, real sentences in turn. Prints medians over the repeats, in alternating order; ratios are of the same
repeat. Every setting of the service can be given in the environment, to `koner` alone.

--profile instead measures how much of a worker's time at 16 clients goes into anything but the model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import material, random_model
from benchmarks.material import read_material
from benchmarks.processes import MEMORY_KIND, Peak, Service, body_of
from benchmarks.random_model import prepare_served
from benchmarks.reporting import cores, machine, table
from koner.errors import KonerError, told_plainly

KONER = "koner"
MODEL = Path("models/ner")
_SCRIPT = Path(__file__).with_name("wrk_infer.lua")
_MIB = 2**20
_PROFILED_CLIENTS = 16
_FLOOR = 0.1
_SETTLING = 4  # seconds
_OF_BATCHES = ("seconds_sum", "seconds_count", "windows_sum")


@dataclass(frozen=True)
class Answers:
    """What wrk saw: seconds, answers by status, errors of any other kind, latencies in seconds."""

    seconds: float
    statuses: dict[str, int]
    errors: int
    p50: float
    p99: float

    @property
    def throughput(self) -> float:
        """The 200s a second."""
        return self.statuses.get("200", 0) / self.seconds

    @property
    def refused(self) -> int:
        return self.statuses.get("503", 0)

    @property
    def wrong(self) -> int:
        """Requests that met with neither 200 nor 503."""
        return self.errors + sum(self.statuses.values()) - self.statuses.get("200", 0) - self.refused


@dataclass
class Trial:
    """One start of one service: seconds until the first answer, most memory (bytes), answers by number of clients."""

    start_up: float
    memory: int = 0
    answers: dict[int, Answers] = field(default_factory=dict)


def wrk(url: str, bodies: Path, clients: int, seconds: float) -> Answers:
    """Lets `clients` ask a service for `seconds`."""
    done = subprocess.run(wrk_command(url, bodies, clients, seconds), capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise KonerError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return Answers(**json.loads(done.stdout.splitlines()[-1]))


def wrk_command(url: str, bodies: Path, clients: int, seconds: float) -> list[str]:
    # Its default, 2 s, would count slow answers as lost.
    load = ["--threads=1", f"--connections={clients}", f"--duration={max(1, round(seconds))}s", "--timeout=300s"]
    return ["wrk", *load, "--latency", f"--script={_SCRIPT}", f"{url}/infer", "--", str(bodies)]


def service_of(name: str, folder: Path, arguments: argparse.Namespace) -> Service:
    """The service of a name: `koner`, or `usual` with its number of workers, such as `usual-2`."""
    if name == KONER:
        return Service(["app"], folder)
    workers = int(name.rpartition("-")[2])
    command = ["gunicorn", "--bind=127.0.0.1:{port}", f"--workers={workers}", "--worker-class=gthread"]
    # As long as the slowest answer may take.
    command += [f"--threads={arguments.usual_threads}", "--timeout=300"]
    app = f"benchmarks.usual_service:create_app({str(folder / MODEL)!r})"
    return Service([*command, app], folder, {"OMP_NUM_THREADS": str(max(1, cores() // workers))})


def trial(name: str, folder: Path, bodies: Path, arguments: argparse.Namespace) -> Trial:
    """Starts a service, times its first answer, and asks with each number of clients."""
    with service_of(name, folder, arguments) as service, Peak(service) as peak:
        seen = Trial(service.first_answer(first_of(bodies)))
        wrk(service.url, bodies, max(arguments.clients), arguments.seconds / 4)
        for clients in arguments.clients:
            # wrk leaves amid its requests, and the service works on them for seconds: this comes behind them.
            service.first_answer(first_of(bodies))
            seen.answers[clients] = wrk(service.url, bodies, clients, arguments.seconds)
            print(f"{name}, {clients} clients: {seen.answers[clients].throughput:.1f} a second", flush=True)
        seen.memory = peak.most
    return seen


def compare(folder: Path, bodies: Path, arguments: argparse.Namespace) -> dict[str, list[Trial]]:
    """Every service, as often as asked for, the order turned round each time."""
    names = [*(f"usual-{n}" for n in arguments.usual_workers), KONER]
    trials: dict[str, list[Trial]] = {name: [] for name in names}
    for repeat in range(arguments.repeats):
        for name in names[:: 1 if repeat % 2 == 0 else -1]:
            trials[name].append(trial(name, folder, bodies, arguments))
    return trials


def shown(trials: dict[str, list[Trial]]) -> str:
    """The medians as two Markdown tables."""
    ours = trials[KONER]
    rows: list[list[str]] = []
    for clients in ours[0].answers:
        for name, theirs in trials.items():
            seen = [t.answers[clients] for t in theirs]
            ratio = median(
                o.answers[clients].throughput / max(a.throughput, 1e-9) for o, a in zip(ours, seen, strict=True)
            )
            rows.append([
                f"{clients}, {name}",
                f"{median(a.throughput for a in seen):.1f}",
                "" if name == KONER else f"{ratio:.2f}",
                f"{median(a.p50 for a in seen) * 1000:.0f}",
                f"{median(a.p99 for a in seen) * 1000:.0f}",
                str(sum(a.refused for a in seen)),
                str(sum(a.wrong for a in seen)),
            ])  # fmt: skip
    starts = [
        [name, f"{median(t.start_up for t in seen):.1f}", f"{median(t.memory for t in seen) / _MIB:.0f}"]
        for name, seen in trials.items()
    ]
    head = ["clients, service", "200s a second", "koner / it", "p50, ms", "p99, ms", "503s", "other"]
    return (
        table(head, rows)
        + "\n\n"
        + table(["service", "first answer after, s", f"most memory, MiB ({MEMORY_KIND})"], starts)
    )


def profile(folder: Path, bodies: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Measures where a saturated worker's time goes: the share in the model, the share of everything else."""
    with service_of(KONER, folder, arguments) as service:
        service.first_answer(first_of(bodies))
        command = wrk_command(service.url, bodies, _PROFILED_CLIENTS, arguments.seconds + 4 * _SETTLING)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:  # noqa: S603
            time.sleep(_SETTLING)
            before, start = service.metrics(), time.perf_counter()
            time.sleep(arguments.seconds)
            after, seconds = service.metrics(), time.perf_counter() - start
            load.terminate()
        workers = len(service.workers())
    ran = {name: after.total(f"koner_batch_{name}") - before.total(f"koner_batch_{name}") for name in _OF_BATCHES}
    model = ran["seconds_sum"] / (seconds * workers)
    return {
        "workers": workers,
        "seconds": seconds,
        "batches": ran["seconds_count"],
        "windows_a_batch": ran["windows_sum"] / max(1, ran["seconds_count"]),
        "model": model,
        "else": 1 - model,
    }


def shown_profile(found: dict[str, float]) -> str:
    """The shares as a Markdown table."""
    kept = "kept" if found["else"] < _FLOOR else "NOT kept"
    rows = [
        ("workers", f"{found['workers']:.0f}"),
        ("seconds", f"{found['seconds']:.1f}"),
        ("batches", f"{found['batches']:.0f}"),
        ("sentences a batch", f"{found['windows_a_batch']:.1f}"),
        ("time in the model", f"{found['model']:.1%}"),
        (f"time in everything else (floor: below {_FLOOR:.0%}, {kept})", f"{found['else']:.1%}"),
    ]
    return table([f"{KONER}, {_PROFILED_CLIENTS} clients", "figure"], rows)


def first_of(bodies: Path) -> bytes:
    with bodies.open("rb") as lines:
        return next(lines).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    material.add_options(parser, sentences=800)
    random_model.add_options(parser)
    parser.add_argument("--folder", type=Path, help="where the model is made, and kept for the next time; else nowhere")
    parser.add_argument("--serve-precision", choices=("auto", "int8", "fp32"), default="auto", help="as the parameter")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement, %(default)s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--usual-workers", type=int, nargs="+", default=[1], help="e.g. 1 2: measured with each")
    parser.add_argument("--usual-threads", type=int, default=4, help="of each of its workers, %(default)s")
    parser.add_argument("--json", type=Path, help="write every single measurement there")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        raise KonerError("wrk, the load generator, is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        found = read_material(arguments)
        prepare_served(folder, MODEL, found, arguments)
        bodies = Path(scratch) / "bodies"
        bodies.write_bytes(b"\n".join(body_of(text) for text in found.texts) + b"\n")
        if arguments.profile:
            profiled = profile(folder.resolve(), bodies, arguments)
            figures: dict[str, Any] = {"profile": profiled}
            report = shown_profile(profiled)
            wrong = 0
        else:
            trials = compare(folder.resolve(), bodies, arguments)
            figures = {name: [asdict(t) for t in seen] for name, seen in trials.items()}
            report = shown(trials)
            wrong = sum(a.wrong for seen in trials.values() for t in seen for a in t.answers.values())
    print(f"\n{machine()}, shared with wrk; {len(found.texts)} sentences in turn, {arguments.seconds:g} s each\n")
    print(report)
    if arguments.json:
        options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
        written = {"machine": machine(), "options": options, "measured": figures}
        arguments.json.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if wrong:
        raise KonerError(f"{wrong} requests met with neither 200 nor 503")


if __name__ == "__main__":
    with told_plainly():
        main()
