"""Compare the service with the usual way to serve a model.

    python -m benchmarks.serving [--source FOLDER] [--config FOLDER]
    python -m benchmarks.serving --profile

All serve the same model in the shape of klue/roberta-base with random weights, one after the other on the same cores,
which they share with the load generator (wrk):

    usual                gunicorn over a Flask route that calls transformers' pipeline
    expert-onnxruntime   gunicorn over a Flask route with a batcher; int8 by ONNX Runtime's `quantize_dynamic`
    expert-openvino      the same with OpenVINO; int8 by NNCF, calibrated on 120 training sentences
    koner                `python -m app` with the model as the export stage writes it
    koner-lists          the same; each request has --texts texts, and the figure is texts per second

Each client of wrk sends the next of real sentences after each answer. Settings of the service may be given in the
environment; they affect `koner` only. A way whose packages are not installed is left out.

Prints throughput, latency, refusals, start-up time and peak memory: medians of the repeats, between which the order of
the services alternates; a ratio compares runs of the same repeat. --profile measures instead how much of a worker's
time with 16 clients is spent outside the model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import experts, random_model, sentences
from benchmarks.processes import (
    MEMORY_KIND,
    PeakMemory,
    Service,
    gunicorn_command,
    request_body,
    run_command,
    usual_command,
)
from benchmarks.reporting import (
    MIB,
    alternate,
    describe_machine,
    describe_run,
    format_median,
    format_table,
    make_parser,
    paired_ratios,
    positive_number,
    write_json,
)
from koner.errors import KonerError, exit_on_error
from koner.hardware import usable_cores

KONER, LISTS = "koner", "koner-lists"
MODEL = Path("models/ner")
# The packages whose versions are printed.
PACKAGES = ("torch", "transformers", "tokenizers", "onnxruntime", "openvino", "nncf", "Flask", "gunicorn")
_WRK_SCRIPT = Path(__file__).with_name("wrk_infer.lua")
_PROFILE_CLIENTS, _MAX_OVERHEAD = 16, 0.1
_WARM_UP = 4  # seconds
_BATCH_METRICS = ("seconds_sum", "seconds_count", "windows_sum")


@dataclass(frozen=True)
class Answers:
    """The result of wrk: seconds, answers by status, the number of other errors, and latencies in seconds.

    `texts` is the number of texts in each request.
    """

    seconds: float
    statuses: dict[str, int]
    errors: int
    p50: float
    p99: float
    texts: int = 1

    @property
    def throughput(self) -> float:
        """The texts per second that were answered with 200."""
        return self.texts * self.statuses.get("200", 0) / self.seconds

    @property
    def refused(self) -> int:
        """The number of answers with status 503."""
        return self.statuses.get("503", 0)

    @property
    def unexpected(self) -> int:
        """The number of requests that were answered with neither 200 nor 503."""
        return self.errors + sum(self.statuses.values()) - self.statuses.get("200", 0) - self.refused


@dataclass
class Trial:
    """One start of a service: seconds until the first answer, peak memory in bytes, answers by number of clients."""

    start_up: float
    memory: int = 0
    answers: dict[int, Answers] = field(default_factory=dict)


Trials = dict[str, list[Trial]]


def run_wrk(url: str, bodies: Path, clients: int, seconds: float) -> Answers:
    """Put a service under load from a number of clients."""
    output = run_command(wrk_command(url, bodies, clients, seconds))
    return Answers(**json.loads(output.splitlines()[-1]))


def wrk_command(url: str, bodies: Path, clients: int, seconds: float) -> list[str]:
    """Return the command that runs wrk."""
    # The default timeout of 2 s would count slow answers as errors.
    options = ["--threads=1", f"--connections={clients}", f"--duration={max(1, round(seconds))}s", "--timeout=300s"]
    return ["wrk", *options, "--latency", f"--script={_WRK_SCRIPT}", f"{url}/infer", "--", str(bodies)]


def make_service(name: str, folder: Path, arguments: argparse.Namespace) -> Service:
    """Return a service by its name: `koner(-lists)`, one of `experts.PACKAGES`, or `usual-N` with N workers."""
    if name in (KONER, LISTS):
        return Service(["app"], folder, {"WORKERS": str(arguments.workers)})
    if name in experts.PACKAGES:
        paths = str(folder / MODEL), str(experts.model_path(name, folder))
        threads = max(1, usable_cores() // arguments.workers)
        application = f"benchmarks.expert_service:create_app({paths[0]!r}, {paths[1]!r}, {threads})"
        # A thread for each client, so that all of them can be in a batch.
        return Service(gunicorn_command(application, arguments.workers, max(arguments.clients)), folder)
    workers = int(name.rpartition("-")[2])
    command = usual_command(folder / MODEL, workers, arguments.usual_threads)
    return Service(command, folder, {"OMP_NUM_THREADS": str(max(1, usable_cores() // workers))})


def run_trial(name: str, folder: Path, bodies: Path, arguments: argparse.Namespace) -> Trial:
    """Start a service, time its first answer, and measure it with each number of clients."""
    if name == LISTS:
        bodies = bodies.with_name(LISTS)
    body = read_first_body(bodies)
    with make_service(name, folder, arguments) as service, PeakMemory(service) as memory:
        trial = Trial(service.wait_for_answer(body))
        run_wrk(service.url, bodies, max(arguments.clients), arguments.seconds / 4)
        for clients in arguments.clients:
            # wrk ends with requests in flight, on which the service works for seconds: wait for an answer after them.
            service.wait_for_answer(body)
            answers = run_wrk(service.url, bodies, clients, arguments.seconds)
            trial.answers[clients] = replace(answers, texts=arguments.texts) if name == LISTS else answers
            print(f"{name}, {clients} clients: {trial.answers[clients].throughput:.1f} per second", flush=True)
        trial.memory = memory.peak
    return trial


def compare(folder: Path, bodies: Path, arguments: argparse.Namespace) -> Trials:
    """Measure every service in each repeat, in alternating order."""
    ours = [KONER, LISTS] if arguments.texts else [KONER]
    names = [*(f"usual-{n}" for n in arguments.usual_workers), *arguments.experts, *ours]
    trials: Trials = {name: [] for name in names}
    for repeat in range(arguments.repeats):
        for name in alternate(names, repeat):
            trials[name].append(run_trial(name, folder, bodies, arguments))
    return trials


def format_trials(trials: Trials) -> str:
    """Format the medians as two Markdown tables: by clients and service, and by service."""
    rows = [_format_answers(clients, name, trials) for clients in trials[KONER][0].answers for name in trials]
    starts = [
        [name, format_median(t.start_up for t in repeats), format_median((t.memory / MIB for t in repeats), 0)]
        for name, repeats in trials.items()
    ]
    head = ["clients, service", "texts per second", "koner / this way", "p50, ms", "p99, ms", "503s", "other"]
    start_head = ["service", "first answer after, s", f"peak memory, MiB ({MEMORY_KIND})"]
    return f"{format_table(head, rows)}\n\n{format_table(start_head, starts)}"


def _format_answers(clients: int, name: str, trials: Trials) -> list[str]:
    answers = [trial.answers[clients] for trial in trials[name]]
    koner_rates = [trial.answers[clients].throughput for trial in trials[KONER]]
    rates = [a.throughput for a in answers]
    return [
        f"{clients}, {name}",
        format_median(rates),
        "" if name == KONER else format_median(paired_ratios(koner_rates, rates), 2),
        format_median((a.p50 * 1000 for a in answers), 0),
        format_median((a.p99 * 1000 for a in answers), 0),
        str(sum(a.refused for a in answers)),
        str(sum(a.unexpected for a in answers)),
    ]


def count_unexpected(trials: Iterable[list[Trial]]) -> int:
    """Return the number of requests that were answered with neither 200 nor 503."""
    return sum(answers.unexpected for repeats in trials for t in repeats for answers in t.answers.values())


def profile(folder: Path, bodies: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure the shares of a saturated worker's time inside and outside the model."""
    with make_service(KONER, folder, arguments) as service:
        service.wait_for_answer(read_first_body(bodies))
        command = wrk_command(service.url, bodies, _PROFILE_CLIENTS, arguments.seconds + 4 * _WARM_UP)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:  # noqa: S603
            time.sleep(_WARM_UP)
            before, start = service.metrics(), time.perf_counter()
            time.sleep(arguments.seconds)
            after, seconds = service.metrics(), time.perf_counter() - start
            wrk.terminate()
        workers = len(service.workers())
    names = {name: f"koner_batch_{name}" for name in _BATCH_METRICS}
    increase = {name: after.total(metric) - before.total(metric) for name, metric in names.items()}
    model_share = increase["seconds_sum"] / (seconds * workers)
    return {
        "workers": workers,
        "seconds": seconds,
        "batches": increase["seconds_count"],
        "windows_a_batch": increase["windows_sum"] / max(1, increase["seconds_count"]),
        "model": model_share,
        "else": 1 - model_share,
    }


def format_profile(figures: dict[str, float]) -> str:
    """Format the shares as a Markdown table."""
    verdict = "met" if figures["else"] < _MAX_OVERHEAD else "NOT met"
    rows = [
        ("workers", f"{figures['workers']:.0f}"),
        ("seconds", f"{figures['seconds']:.1f}"),
        ("batches", f"{figures['batches']:.0f}"),
        ("sentences per batch", f"{figures['windows_a_batch']:.1f}"),
        ("time in the model", f"{figures['model']:.1%}"),
        (f"time outside the model (target: below {_MAX_OVERHEAD:.0%}, {verdict})", f"{figures['else']:.1%}"),
    ]
    return format_table([f"{KONER}, {_PROFILE_CLIENTS} clients", "figure"], rows)


def read_first_body(bodies: Path) -> bytes:
    """Return the first of the request bodies."""
    with bodies.open("rb") as lines:
        return next(lines).strip()


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    sentences.add_options(parser, sentences=800)
    random_model.add_options(parser)
    parser.add_argument(
        "--folder", type=Path, help="folder for the model, which is kept and used again (default: a temporary one)"
    )
    parser.add_argument("--serve-precision", choices=("auto", "int8", "fp32"), default="auto", help="as the parameter")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of clients (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=20, help="of each measurement (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="starts of every service (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=0, help="in a request of koner-lists; 0: leave it out (default)")
    parser.add_argument("--workers", type=int, default=1, help="of koner and the experts (default: %(default)s)")
    parser.add_argument(
        "--usual-workers", type=int, nargs="+", default=[1], help="numbers of workers of the usual way, e.g. 1 2"
    )
    parser.add_argument("--usual-threads", type=int, default=4, help="of each of these workers (default: %(default)s)")
    parser.add_argument(
        "--experts", nargs="*", choices=experts.PACKAGES, help="these only (default: all whose packages are installed)"
    )
    parser.add_argument("--json", type=Path, help="file for every single measurement")
    parser.add_argument("--profile", action="store_true", help="measure the time outside the model instead")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if not shutil.which("wrk"):
        raise KonerError("wrk, the load generator, is not installed; run apt-get install wrk")
    arguments.experts = [] if arguments.profile else experts.select(arguments.experts)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        corpus = sentences.read_sentences(arguments)
        random_model.prepare_service_folder(folder, MODEL, corpus.train, arguments)
        for name in arguments.experts:
            experts.prepare(name, folder, folder / MODEL, [sentence.text for sentence in corpus.train])
        bodies = Path(temporary) / "bodies"
        bodies.write_bytes(b"\n".join(request_body(text) for text in corpus.texts) + b"\n")
        if arguments.texts:
            starts = range(0, len(corpus.texts) - arguments.texts + 1, arguments.texts)
            lists = [request_body(corpus.texts[i : i + arguments.texts]) for i in starts]
            bodies.with_name(LISTS).write_bytes(b"\n".join(lists) + b"\n")
        measurements: dict[str, Any]
        unexpected = 0
        if arguments.profile:
            figures = profile(folder.resolve(), bodies, arguments)
            measurements, report = {"profile": figures}, format_profile(figures)
        else:
            trials = compare(folder.resolve(), bodies, arguments)
            measurements = {name: [asdict(trial) for trial in repeats] for name, repeats in trials.items()}
            report, unexpected = format_trials(trials), count_unexpected(trials.values())
    load = f"{len(corpus.texts)} sentences in turn, {arguments.seconds:g} s each"
    print(f"\n{describe_machine()}, shared with wrk; {load}\n{describe_run(PACKAGES)}\n\n{report}")
    if arguments.json:
        write_json(arguments.json, arguments, measurements, PACKAGES)
    if unexpected:
        raise KonerError(f"{unexpected} requests were answered with neither 200 nor 503")


if __name__ == "__main__":
    with exit_on_error():
        main()
