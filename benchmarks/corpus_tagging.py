"""Measure the cost of tagging a corpus, in sentences per second and core.

    python -m benchmarks.corpus_tagging [--sentences 200000] [--model FOLDER] [--ways WAY ...]

The corpus is JSON lines: the sentences of the sample corpus, repeated under new ids. `loop` is the simplest program, a
loop over transformers' pipeline. `one process` calls the project's tagger with a thousand sentences at a time. `local`
and `ray` run `koner tag --engine` with two workers, from the start of the program to its end, and `select` runs
`koner select`, which tags the corpus to choose from it; a run over two sentences measures their start, which is
reported separately. Every worker has one thread. The pipeline is slow, so
--loop-sentences limits the sentences of `loop`; its rate does not depend on their number.

Prints sentences per second by the clock, and per second of CPU time of all processes of a way, which is also meaningful
on a busy machine; from the latter follow the hours for a billion sentences on 32 and on 1,000 such cores. Also prints
the peak memory of the largest process, and
the costs that do not scale with the workers: the CPU time of the main process of `koner tag` (with few --sentences, the
difference between small and large --block-rows is the cost of the blocks), and how fast it finds the block boundaries
in files of lines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import psutil

from benchmarks.processes import ROOT
from benchmarks.reporting import MIB, describe_machine, format_table, make_parser
from koner.bulk.files import CorpusFile
from koner.bulk.line_rows import count_lines
from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError, exit_on_error
from koner.params import SAMPLE

WAYS = ("loop", "one process", "local", "ray", "select")
BATCH_SIZE = 1024
BLOCK_ROWS = 10_000
WORKERS = 2
BILLION = 10**9
CORES = (32, 1_000)
# Of `koner select`.
_BUDGET = 100
_SCANS = 5
_SAMPLE_INTERVAL = 0.2  # seconds
# Otherwise these libraries would use all cores.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and seconds of CPU time of all processes and of the main process.

    Of a command, also the peak memory of its largest process, in bytes.
    """

    seconds: float
    cpu: float
    main_cpu: float
    memory: int = 0


@dataclass(frozen=True)
class Run:
    """The cost of tagging a number of sentences, in total and of the start."""

    sentences: int
    total: Cost
    start: Cost

    @property
    def rate(self) -> float:
        """Sentences per second by the clock, without the start."""
        return self.sentences / (self.total.seconds - self.start.seconds)

    @property
    def rate_per_core(self) -> float:
        """Sentences per second of CPU time, without the start."""
        return self.sentences / (self.total.cpu - self.start.cpu)


class Stopwatch:
    """The cost of this process since the stopwatch was created."""

    def __init__(self) -> None:
        self._seconds, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Cost:
        """Return the cost so far."""
        cpu = time.process_time() - self._cpu
        return Cost(time.perf_counter() - self._seconds, cpu, cpu)


def write_corpus(path: Path, sentences: int) -> None:
    """Write the sentences of the sample corpus, repeated, with consecutive ids."""
    parts = read_checked(read_source(SAMPLE, "ner", None))
    texts = [sentence.text for part in parts.values() for sentence in part]
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(islice(cycle(texts), sentences)):
            file.write(json.dumps({"id": f"{number:012d}", "text": text}, ensure_ascii=False) + "\n")


def read_texts(path: Path, count: int) -> Iterator[str]:
    """Yield the first texts of the corpus."""
    with path.open(encoding="utf-8") as file:
        for line in islice(file, count):
            yield json.loads(line)["text"]


def run_loop(path: Path, model: Path, sentences: int) -> Run:
    """Tag by a loop over transformers' pipeline."""
    import torch
    from transformers import pipeline

    stopwatch = Stopwatch()
    torch.set_num_threads(1)
    classify: Any = pipeline("token-classification", model=str(model), aggregation_strategy="simple", device="cpu")
    start = stopwatch.read()
    for text in read_texts(path, sentences):
        classify(text)
    return Run(sentences, stopwatch.read(), start)


def run_one_process(path: Path, model: Path, sentences: int) -> Run:
    """Tag by the project's tagger in this process."""
    from koner import Tagger

    stopwatch = Stopwatch()
    tagger = Tagger.load(model, "cpu", 1)
    start = stopwatch.read()
    texts = read_texts(path, sentences)
    while batch := list(islice(texts, BATCH_SIZE)):
        tagger.tag_all(batch)
    return Run(sentences, stopwatch.read(), start)


def run_engine(name: str, path: Path, model: Path, sentences: int, block_rows: int) -> Run:
    """Tag by `koner tag --engine`, or by `koner select`."""
    with TemporaryDirectory() as folder:
        small_corpus = Path(folder) / "small.jsonl"
        with path.open(encoding="utf-8") as file:
            small_corpus.write_text("".join(islice(file, 2)), encoding="utf-8")
        start = measure_command(name, small_corpus, Path(folder) / "small", model, 1, 1)
        # At least two blocks per worker, so that the workers are equally busy.
        block_rows = min(block_rows, -(-sentences // (2 * WORKERS)))
        total = measure_command(name, path, Path(folder) / "all", model, block_rows, min(_BUDGET, sentences))
    return Run(sentences, total, start)


def measure_command(way: str, path: Path, output: Path, model: Path, block_rows: int, budget: int) -> Cost:
    """Run a command of koner and return the cost of all its processes."""
    options = ["--workers", str(WORKERS), "--threads", "1", "--device", "cpu", "--model", str(model)]
    arguments = ["tag", "--engine", way, *options, "--block-rows", str(block_rows), str(path), str(output)]
    if way == "select":
        arguments = ["select", *options, "--budget", str(budget), "--output", str(output), str(path)]
    program = "from koner.cli.main import main; main()"
    command = [sys.executable, "-c", program, *arguments]
    # By default Ray runs its actors at a low priority, behind the other work of the machine.
    environment = os.environ | {"RAY_ADDRESS": "local", "RAY_worker_niceness": "0"}
    start = time.perf_counter()
    with TemporaryFile() as log:
        process = psutil.Popen(command, cwd=ROOT, env=environment, stderr=log, stdout=subprocess.DEVNULL)
        cpu_times: dict[psutil.Process, float] = {}
        memory = 0
        while process.poll() is None:
            memory = max(memory, sample_processes(process, cpu_times))
            time.sleep(_SAMPLE_INTERVAL)
        if process.returncode:
            log.seek(0)
            raise KonerError(log.read().decode().strip().splitlines()[-1].removeprefix("koner: "))
    return Cost(time.perf_counter() - start, sum(cpu_times.values()), cpu_times[process], memory)


def sample_processes(process: psutil.Process, cpu_times: dict[psutil.Process, float]) -> int:
    """Store the CPU time of a process and of each of its descendants, and return the memory of the largest in bytes.

    The workers of Ray descend from a process that does not wait for them, so the CPU time of ended children is lost
    unless it is read while they run.
    """
    memory = 0
    with suppress(psutil.Error):
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                times = member.cpu_times()
                cpu_times[member] = times.user + times.system
                memory = max(memory, member.memory_info().rss)
    return memory


def measure_scan(path: Path) -> float:
    """Return the bytes per second of CPU time that are scanned for block boundaries: the best of several scans."""
    cpu_times = []
    for _ in range(_SCANS):
        stopwatch = Stopwatch()
        list(count_lines([CorpusFile(str(path), "")], BLOCK_ROWS))
        cpu_times.append(stopwatch.read().cpu)
    return path.stat().st_size / min(cpu_times)


def run_way(way: str, path: Path, arguments: argparse.Namespace) -> Run:
    """Tag the corpus in one of the ways."""
    model, sentences = arguments.model.resolve(), arguments.sentences
    if way == "loop":
        return run_loop(path, model, min(arguments.loop_sentences or sentences, sentences))
    if way == "one process":
        return run_one_process(path, model, sentences)
    return run_engine(way, path, model, sentences, arguments.block_rows)


def format_runs(runs: dict[str, Run]) -> str:
    """Format the runs as a Markdown table."""
    rows = []
    for way, run in runs.items():
        hours = [f"{BILLION / run.rate_per_core / cores / 3600:.1f}" for cores in CORES]
        rates = [f"{run.rate:.1f}", f"{run.rate_per_core:.1f}"]
        memory = f"{run.total.memory / MIB:.0f}" if run.total.memory else ""
        rows.append(
            [way, run.sentences, f"{run.start.seconds:.1f}", *rates, f"{run.total.main_cpu:.2f}", memory, *hours]
        )
    head = ["way", "sentences", "start, s", "sentences/s", "per second and core", "main process, CPU s", "peak MiB"]
    return format_table([*head, *(f"hours for {BILLION:,} on {cores:,} cores" for cores in CORES)], rows)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sentences", type=int, default=200_000, help="sentences of the corpus (default: %(default)s)")
    parser.add_argument("--loop-sentences", type=int, help="sentences of the plain loop (default: all)")
    parser.add_argument(
        "--block-rows", type=int, default=BLOCK_ROWS, help="rows per block of the engines (default: %(default)s)"
    )
    parser.add_argument("--model", type=Path, default=ROOT / "models/ner", help="folder of the model")
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", default=list(WAYS), help=", ".join(WAYS))
    arguments = parser.parse_args()
    runs: dict[str, Run] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        write_corpus(path, arguments.sentences)
        sentence_size = path.stat().st_size / arguments.sentences
        for way in arguments.ways:
            runs[way] = run_way(way, path, arguments)
            print(f"{way}: {runs[way]}", flush=True)
        scan_rate = measure_scan(path)
    print(f"\n{describe_machine()}; {arguments.sentences} sentences of {sentence_size:.0f} bytes")
    print(f"block boundaries are found at {scan_rate / 10**9:.1f} GB per second of CPU time\n")
    print(format_runs(runs))


if __name__ == "__main__":
    os.environ.update(ONE_THREAD)
    with exit_on_error():
        main()
