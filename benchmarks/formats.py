"""Sentences per second of a core, and memory, of the reading of each format, with and without the checks.

python -m benchmarks.formats --sentences 20000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from benchmarks.processes import peak_memory, run_module
from benchmarks.reporting import MIB, describe_machine, make_parser
from koner.corpus.checks import FaultReport, check_all
from koner.corpus.conversion import WRITABLE, write_parts
from koner.corpus.formats.registry import HUB
from koner.corpus.sentences import Sentence
from koner.corpus.sources import read_checked, read_source
from koner.errors import exit_on_error


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--source", default="sample", help="the sentences, which are repeated")
    parser.add_argument("--sentences", type=int, default=20_000)
    parser.add_argument("--formats", nargs="*", default=[name for name in WRITABLE if name != HUB])
    parser.add_argument("--measure", nargs=2, metavar=("FORMAT", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    sentences = read_checked(read_source(arguments.source, "ner", None))["train"]
    print(f"{describe_machine()}\n")
    print(f"{'format':18} {'read':>10} {'checked':>10} {'memory MiB':>10}   (sentences per second of CPU time)")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats:
            path = Path(folder, f"{name}.txt")
            with write_parts(path, name, False) as write:
                write("train", repeat(sentences, arguments.sentences, has_words=name == "lines"))
            figures = run_module("benchmarks.formats", "--measure", name, str(path))
            print(
                f"{name:18} {figures['read']:10,.0f} {figures['checked']:10,.0f} {figures['memory']:10,.0f}", flush=True
            )
            path.unlink()


def repeat(sentences: list[Sentence], count: int, has_words: bool) -> Iterator[Sentence]:
    """Yield sentences with ids of their own; for words and tags, their words without entities."""
    for i, sentence in enumerate(islice(cycle(sentences), count)):
        text = " ".join(sentence.text.split())
        if has_words:
            yield Sentence(f"s-{i}", text, None, ("O",) * len(text), ())
        else:
            yield Sentence(f"s-{i}", sentence.text, None, sentence.tags, sentence.entities)


def measure(name: str, path: str) -> None:
    """Print the figures of one format as JSON."""

    def read() -> Iterator[object]:
        return read_source(path, "ner", None, source_format=name)["train"]

    # What is imported on the first use does not count.
    next(read())
    start = time.process_time()
    count = sum(1 for _ in read())
    middle = time.process_time()
    checked = sum(1 for _ in check_all(read_source(path, "ner", None, source_format=name)["train"], FaultReport()))
    end = time.process_time()
    speeds = {"read": count / (middle - start), "checked": checked / (end - middle)}
    print(json.dumps({**speeds, "memory": peak_memory() / MIB}))


if __name__ == "__main__":
    with exit_on_error():
        main()
