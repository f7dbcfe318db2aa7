"""What a corpus costs to tag: python -m benchmarks.corpus_tagging [--sentences 200000] [--model FOLDER]

Sentences of the sample corpus, repeated with new ids, as JSON lines. `loop` is what one would write first: a plain loop
over transformers' pipeline. `one process` is the project's tagger called on a thousand sentences at a time. `ray` and
`local` are `koner tag --engine` as a user runs it, from the start of the program to its end, with two actors and two
processes; what they take to start is told apart, by a run over one block. Every worker has one thread. Prints
sentences a second by the clock and by the seconds that all processes of a way together were on a core, which is what
a core gives whatever else the machine does; and by these hours for a billion sentences on 32 and 1,000 such cores.

The pipeline is slow: `--loop-sentences` says how many of the sentences it gets; its rate doesn't hang on how many.

What has to be done once for all workers is told for itself: what the command that hands blocks out was on a core (with
little `--sentences`, and `--block-rows` once small and once large, the difference is that of the blocks), and how fast
it goes over the lines beforehand to find where blocks begin.
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

from benchmarks.reporting import machine, table
from koner.bulk.files import CorpusFile
from koner.bulk.line_rows import survey
from koner.errors import KonerError, told_plainly
from koner.sources import SAMPLE, read_checked, read_source

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 1024
BLOCK_ROWS = 10_000
BILLION = 10**9
CORES = (32, 1_000)
# Of every library that would take all cores for itself.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and seconds on cores: of all processes together, and of the command's own alone."""

    seconds: float
    on_cores: float
    of_command: float


@dataclass(frozen=True)
class Run:
    """What a way took: its sentences, and the whole and the start of it, each by the clock and by the cores."""

    sentences: int
    whole: Spent
    starting: Spent

    @property
    def rate(self) -> float:
        """Sentences a second by the clock, once it runs."""
        return self.sentences / (self.whole.seconds - self.starting.seconds)

    @property
    def rate_of_a_core(self) -> float:
        """Sentences a second on a core, once it runs."""
        return self.sentences / (self.whole.on_cores - self.starting.on_cores)


def write_corpus(path: Path, sentences: int) -> None:
    """Writes the sample's sentences over and over, ids counting on."""
    parts = read_checked(read_source(SAMPLE, "ner", None))
    texts = [sentence.text for part in parts.values() for sentence in part]
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(islice(cycle(texts), sentences)):
            file.write(json.dumps({"id": f"{number:012d}", "text": text}, ensure_ascii=False) + "\n")


def read_texts(path: Path, most: int) -> Iterator[str]:
    """The texts of a corpus, read as they are asked for."""
    with path.open(encoding="utf-8") as file:
        for line in islice(file, most):
            yield json.loads(line)["text"]


def loop(path: Path, model: Path, sentences: int) -> Run:
    """A plain loop over transformers' pipeline."""
    import torch
    from transformers import pipeline

    begin = _now()
    torch.set_num_threads(1)
    find: Any = pipeline("token-classification", model=str(model), aggregation_strategy="simple", device="cpu")
    starting = _since(begin)
    for text in read_texts(path, sentences):
        find(text)
    return Run(sentences, _since(begin), starting)


def one_process(path: Path, model: Path, sentences: int) -> Run:
    """The project's tagger in this process."""
    from koner import Tagger

    begin = _now()
    tagger = Tagger.load(model, "cpu", 1)
    starting = _since(begin)
    found = read_texts(path, sentences)
    while texts := list(islice(found, AT_ONCE)):
        tagger.tag_all(texts)
    return Run(sentences, _since(begin), starting)


def engine(name: str, path: Path, model: Path, sentences: int, block_rows: int) -> Run:
    """`koner tag --engine`, with two workers."""
    with TemporaryDirectory() as folder:
        few = Path(folder) / "few.jsonl"
        with path.open(encoding="utf-8") as file:
            few.write_text("".join(islice(file, 2)), encoding="utf-8")
        starting = _timed(name, few, Path(folder) / "few", model, 1)
        # Four blocks at least, so that both workers have the same to do.
        whole = _timed(name, path, Path(folder) / "all", model, min(block_rows, -(-sentences // 4)))
    return Run(sentences, whole, starting)


def counting_rate(path: Path) -> float:
    """Bytes a second of a core that the command goes over to find where blocks of lines begin: the best of five."""
    taken = []
    for _ in range(5):
        begin = _now()
        list(survey([CorpusFile(str(path), "")], BLOCK_ROWS))
        taken.append(_since(begin).on_cores)
    return path.stat().st_size / min(taken)


def _timed(name: str, path: Path, output: Path, model: Path, block_rows: int) -> Spent:
    options = ["--engine", name, "--workers", "2", "--threads", "1", "--device", "cpu"]
    command = [sys.executable, "-c", "from koner.cli import main; main()", "tag", *options, "--model", str(model)]
    command += ["--block-rows", str(block_rows), str(path), str(output)]
    # Ray would run its actors at the least priority, behind whatever else the machine does.
    environment = os.environ | {"RAY_ADDRESS": "local", "RAY_worker_niceness": "0"}
    begin = time.perf_counter()
    with TemporaryFile() as told:
        process = psutil.Popen(command, cwd=ROOT, env=environment, stderr=told, stdout=subprocess.DEVNULL)
        seen: dict[psutil.Process, float] = {}
        while process.poll() is None:
            _look(process, seen)
            time.sleep(0.2)
        if process.returncode:
            told.seek(0)
            raise KonerError(told.read().decode().strip().splitlines()[-1].removeprefix("koner: "))
    return Spent(time.perf_counter() - begin, sum(seen.values()), seen[process])


def _look(process: psutil.Process, seen: dict[psutil.Process, float]) -> None:
    # Those of Ray's workers are the children of one of its own: asked while they live, and each only for itself.
    with suppress(psutil.Error):
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                times = member.cpu_times()
                seen[member] = times.user + times.system


def _now() -> Spent:
    on_cores = time.process_time()
    return Spent(time.perf_counter(), on_cores, on_cores)


def _since(begin: Spent) -> Spent:
    now = _now()
    on_cores = now.on_cores - begin.on_cores
    return Spent(now.seconds - begin.seconds, on_cores, on_cores)


WAYS = ("loop", "one process", "local", "ray")


def tag(way: str, path: Path, arguments: argparse.Namespace) -> Run:
    """Tags the corpus by one of the ways."""
    model, sentences = arguments.model.resolve(), arguments.sentences
    if way == "loop":
        return loop(path, model, min(arguments.loop_sentences or sentences, sentences))
    if way == "one process":
        return one_process(path, model, sentences)
    return engine(way, path, model, sentences, arguments.block_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=200_000, help="how many, %(default)s")
    parser.add_argument("--loop-sentences", type=int, help="how many the plain loop gets; else all")
    parser.add_argument("--block-rows", type=int, default=BLOCK_ROWS, help="of the engines' blocks, %(default)s")
    parser.add_argument("--model", type=Path, default=ROOT / "models/ner")
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", default=list(WAYS), help=", ".join(WAYS))
    arguments = parser.parse_args()
    runs: dict[str, Run] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        write_corpus(path, arguments.sentences)
        each = path.stat().st_size / arguments.sentences
        for way in arguments.ways:
            runs[way] = tag(way, path, arguments)
            print(f"{way}: {runs[way]}", flush=True)
        counted = counting_rate(path)
    print(f"\n{machine()}; {arguments.sentences} sentences, {each:.0f} bytes each")
    print(f"lines are counted at {counted / 10**9:.1f} GB per second of a core\n")
    hours = [f"hours for {BILLION:,} on {count:,} cores" for count in CORES]
    head = ["way", "sentences", "start, s", "sentences/s", "per second of a core", "the command's own, s"]
    print(table([*head, *hours], _rows(runs)))


def _rows(runs: dict[str, Run]) -> Iterator[list[object]]:
    for way, run in runs.items():
        rate = run.rate_of_a_core
        hours = [f"{BILLION / rate / count / 3600:.1f}" for count in CORES]
        start, own = run.starting.seconds, run.whole.of_command
        yield [way, run.sentences, f"{start:.1f}", f"{run.rate:.1f}", f"{rate:.1f}", f"{own:.2f}", *hours]


if __name__ == "__main__":
    os.environ.update(ONE_THREAD)
    with told_plainly():
        main()
