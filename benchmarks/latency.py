"""Measure the latency of the service at constant arrival rates, against the services of `serving.py`.

    python -m benchmarks.latency --config FOLDER --plot FILE

First measures the capacity of each service: the answers per second with 16 clients in a closed loop. Then sends
requests at constant rates, which are shares of that capacity, whether or not earlier ones have been answered. Client
and service share the cores. Prints p50, p99 and how busy both together keep the cores by rate, and draws the latencies;
a request that is refused or not sent counts as an error.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import experts, random_model, sentences
from benchmarks.load import Load
from benchmarks.processes import request_body
from benchmarks.reporting import describe_machine, describe_run, format_table, make_parser, positive_number
from benchmarks.serving import KONER, MODEL, PACKAGES, make_service
from koner.errors import exit_on_error

_CLIENTS = 16
_USUAL = "usual-1"


@dataclass(frozen=True)
class Point:
    """The latencies of a service at a rate.

    Attributes:
        service: The name of the service.
        share: The share of its capacity.
        rate: The requests per second.
        p50: The median latency in milliseconds.
        p99: The 99th percentile of the latency in milliseconds.
        errors: The number of requests that were not answered with 200.
        busy: The percentage of all cores' time that is used, by service and client together.
    """

    service: str
    share: float
    rate: float
    p50: float
    p99: float
    errors: int
    busy: float


def measure(name: str, folder: Path, bodies: list[bytes], arguments: argparse.Namespace) -> list[Point]:
    """Measure a service at all rates."""
    with make_service(name, folder, arguments) as service:
        service.wait_for_answer(bodies[0])
        return asyncio.run(_measure_rates(name, service.url, bodies, arguments))


async def _measure_rates(name: str, url: str, bodies: list[bytes], arguments: argparse.Namespace) -> list[Point]:
    async with Load(url, bodies) as load:
        # The first run warms the service up.
        await load.run_closed_loop(_CLIENTS, arguments.seconds / 4)
        capacity = await load.run_closed_loop(_CLIENTS, arguments.seconds)
    points = []
    for share in arguments.shares:
        async with Load(url, bodies) as load:
            psutil.cpu_percent()
            await load.run_at_rate(share * capacity, arguments.seconds)
            busy = psutil.cpu_percent()
        outcome = load.outcome
        p50, p99 = 1000 * np.quantile(outcome.latencies, [0.5, 0.99])
        errors = outcome.sent - outcome.ok + outcome.held_back
        points.append(Point(name, share, share * capacity, p50, p99, errors, busy))
        print(f"{name}, {share:.0%} of {capacity:.0f} a second: p50 {p50:.0f} ms, p99 {p99:.0f} ms", flush=True)
    return points


def format_points(points: list[Point]) -> str:
    """Format the points as a Markdown table."""
    rows = [
        [
            p.service,
            f"{p.share:.0%}",
            f"{p.rate:.0f}",
            f"{p.p50:.1f}",
            f"{p.p99:.1f}",
            f"{p.p99 / p.p50:.1f}",
            f"{p.busy:.0f}%",
            str(p.errors),
        ]
        for p in points
    ]
    head = ["service", "share of its capacity", "requests per second", "p50, ms", "p99, ms", "p99 / p50", "cores busy"]
    return format_table([*head, "errors"], rows)


def draw(points: list[Point], path: Path) -> None:
    """Draw latency against rate, a line for each service and percentile."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for color, name in zip(("C0", "C1", "C2", "C3"), dict.fromkeys(p.service for p in points), strict=False):
        own = [p for p in points if p.service == name]
        rates = [p.rate for p in own]
        line: dict[str, Any] = {"color": color, "marker": "."}
        axes.plot(rates, [p.p50 for p in own], label=f"{name}, p50", **line)
        axes.plot(rates, [p.p99 for p in own], label=f"{name}, p99", linestyle="--", **line)
    axes.set(xlabel="requests per second", ylabel="latency, ms", yscale="log")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    sentences.add_options(parser, sentences=800)
    random_model.add_options(parser)
    parser.add_argument("--folder", type=Path, help="folder for the models, which are kept (default: a temporary one)")
    parser.add_argument("--serve-precision", choices=("auto", "int8", "fp32"), default="auto", help="as the parameter")
    parser.add_argument("--workers", type=int, default=1, help="of koner and the experts (default: %(default)s)")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8], help="default: %(default)s")
    parser.add_argument("--seconds", type=positive_number, default=15, help="of each rate (default: %(default)s)")
    parser.add_argument(
        "--experts", nargs="*", choices=experts.PACKAGES, help="these only (default: all whose packages are installed)"
    )
    parser.add_argument("--plot", type=Path, help="file for the plot")
    arguments = parser.parse_args()
    arguments.usual_threads, arguments.clients = 4, [_CLIENTS]
    names = [_USUAL, *experts.select(arguments.experts), KONER]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        corpus = sentences.read_sentences(arguments)
        random_model.prepare_service_folder(folder, MODEL, corpus.train, arguments)
        for name in names[1:-1]:
            experts.prepare(name, folder, folder / MODEL, [sentence.text for sentence in corpus.train])
        bodies = [request_body(text) for text in corpus.texts]
        points = [point for name in names for point in measure(name, folder, bodies, arguments)]
    print(f"\n{describe_machine()}, shared with the client\n{describe_run(PACKAGES)}\n\n{format_points(points)}")
    if arguments.plot:
        draw(points, arguments.plot)


if __name__ == "__main__":
    with exit_on_error():
        main()
