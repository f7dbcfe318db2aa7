"""The stages before training: python -m benchmarks.stages [--source FOLDER] [--tokenizer FOLDER] [--form tsv hub]

Runs the stages' own code for prepare (reading, checking, writing; the base model is there already), retag and split on
more and more sentences, each in a fresh process: the source's sentences, repeated under new ids with the number of the
repeat behind them, so that no text stands twice. A fifth of them is the validation part. Prints seconds, sentences a
second per core (of CPU time, over all threads) and the most memory; then what each further sentence costs, which leaves
the start-up out. Last comes what `dvc repro` takes where nothing changed, against a bare `dvc status`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import ROOT, most_memory
from benchmarks.reporting import machine, table
from koner.corpus import Sentence, write_inline
from koner.errors import KonerError, told_plainly
from koner.labels import TAG_TO_ID
from koner.params import read_yaml
from koner.parquet import BATCH
from koner.sources import SAMPLE, TRAIN, VALIDATION, read_checked, read_source

STAGES = ("prepare", "retag", "split")
FORMS = ("tsv", "hub")
_MIB = 2**20
# What the stages before training do not look at, but must find.
_SMALL = {"layers": 1, "hidden_size": 32, "heads": 2, "max_divergence": 1.0, "watch": "source"}
_HUB_README = """---
configs:
- config_name: ner
  data_files:
  - {split: train, path: ner/train.parquet}
  - {split: validation, path: ner/validation.parquet}
---
"""


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds, CPU seconds, bytes before its work began and at most."""

    seconds: float
    cpu: float
    before: int
    peak: int


def run_stage(stage: str) -> Cost:
    """Runs a stage in this process, in the working folder."""
    module = importlib.import_module(f"stages.{stage}")
    before = psutil.Process().memory_info().rss
    start, cpu = time.perf_counter(), time.process_time()
    module.main()
    return Cost(time.perf_counter() - start, time.process_time() - cpu, before, most_memory())


def fresh(stage: str, folder: Path) -> Cost:
    """Runs a stage in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.stages", "--stage", stage]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise KonerError(f"the stage {stage} failed: {done.stderr.strip().splitlines()[-1]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def repeated(sentences: list[Sentence]) -> Iterator[Sentence]:
    """The sentences again and again, no id and no text twice."""
    for turn in count():
        tail = f" {turn}" if turn else ""
        for s in sentences:
            yield Sentence(f"{s.id}-{turn}", s.text + tail, s.source, s.tags + ("O",) * len(tail), s.entities)


def write_tsv(path: Path, sentences: Iterable[Sentence]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for s in sentences:
            file.write(f"## {s.id}\t{write_inline(s.text, s.entities)}\n")
            file.writelines(f"{character}\t{tag}\n" for character, tag in zip(s.text, s.tags, strict=True))
            file.write("\n")


def write_hub(path: Path, sentences: Iterable[Sentence]) -> None:
    schema = pa.schema(
        [("sentence", pa.string()), ("tokens", pa.list_(pa.string())), ("ner_tags", pa.list_(pa.int64()))]
    )
    with pq.ParquetWriter(path, schema) as writer:
        sentences = iter(sentences)
        while rows := list(islice(sentences, BATCH)):
            columns = [
                [write_inline(s.text, s.entities) for s in rows],
                [list(s.text) for s in rows],
                [[TAG_TO_ID[tag] for tag in s.tags] for s in rows],
            ]
            writer.write_table(pa.table(columns, schema=schema))


def write_source(folder: Path, form: str, parts: dict[str, list[Sentence]], sentences: int) -> None:
    """Writes a source of that many sentences, four fifths of them to train on."""
    sizes = {TRAIN: sentences - sentences // 5, VALIDATION: sentences // 5}
    (folder / "ner").mkdir(parents=True)
    if form == "hub":
        (folder / "README.md").write_text(_HUB_README)
    for part, size in sizes.items():
        drawn = islice(repeated(parts[part]), size)
        if form == "hub":
            write_hub(folder / "ner" / f"{part}.parquet", drawn)
        else:
            write_tsv(folder / f"{part}.tsv", drawn)


def write_params(folder: Path, **changes: object) -> None:
    """Writes the project's parameters with changes."""
    params = read_yaml(ROOT / "params.yaml") | _SMALL | changes
    # YAML takes JSON.
    (folder / "params.yaml").write_text(json.dumps(params), encoding="utf-8")


def measure(folder: Path, parts: dict[str, list[Sentence]], arguments: argparse.Namespace) -> dict[str, list[Cost]]:
    """What each stage took on each number of sentences, keyed by form, stage and number; median runs by CPU time."""
    own = {"tokenizer": str(arguments.tokenizer.resolve())} if arguments.tokenizer else {}
    (folder / "first").mkdir()
    write_source(folder / "first" / "source", "tsv", parts, 2_000)
    write_params(folder / "first", source="source", base_model="scratch", **own)
    fresh("prepare", folder / "first")
    costs: dict[str, list[Cost]] = {}
    for form in arguments.form:
        for sentences in arguments.sentences:
            place = folder / f"{form}-{sentences}"
            place.mkdir()
            write_source(place / "source", form, parts, sentences)
            write_params(place, source="source", base_model=str((folder / "first/models/base").resolve()))
            for _ in range(arguments.repeats):
                for stage in STAGES if form == arguments.form[0] else STAGES[:1]:
                    cost = fresh(stage, place)
                    costs.setdefault(f"{stage}, {form}" if stage == "prepare" else stage, []).append(cost)
                    print(f"{form}, {stage}, {sentences}: {cost.seconds:.1f} s", flush=True)
            # Half a million sentences take gigabytes.
            subprocess.run(["rm", "-r", str(place)], check=True)  # noqa: S603, S607
    return costs


def shown(costs: dict[str, list[Cost]], sizes: list[int], repeats: int) -> str:
    """The medians as two Markdown tables."""
    rows, further = [], []
    for stage, seen in costs.items():
        by_size = [seen[i : i + repeats] for i in range(0, len(seen), repeats)]
        cpu = [median(c.cpu for c in found) for found in by_size]
        peak = [median(c.peak for c in found) for found in by_size]
        for size, found, seconds, most in zip(sizes, by_size, cpu, peak, strict=True):
            rows.append([
                f"{stage}, {size:,}",
                f"{median(c.seconds for c in found):.1f}",
                f"{size / seconds:,.0f}",
                f"{median(c.before for c in found) / _MIB:.0f}",
                f"{most / _MIB:.0f}",
            ])  # fmt: skip
        for (a, b), (ca, cb), (ma, mb) in zip(pairwise(sizes), pairwise(cpu), pairwise(peak), strict=True):
            further.append(
                [f"{stage}, {a:,} to {b:,}", f"{(b - a) / max(cb - ca, 1e-9):,.0f}", f"{(mb - ma) / (b - a):.0f}"]
            )
    head = ["stage, sentences", "seconds", "sentences/s per core", "MiB before", "MiB at most"]
    return (
        table(head, rows)
        + "\n\n"
        + table(["stage, each further sentence", "sentences/s per core", "bytes more memory"], further)
    )


def unchanged(project: Path, repeats: int) -> str:
    """Seconds of `dvc repro` where nothing changed, and of `dvc status`."""

    def dvc(*command: str) -> tuple[float, str]:
        start = time.perf_counter()
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(["dvc", *command], cwd=project, env=environment, capture_output=True, text=True)  # noqa: S603, S607
        if done.returncode:
            raise KonerError(f"dvc {command[0]} failed in {project}: {done.stderr.strip().splitlines()[-1]}")
        return time.perf_counter() - start, done.stdout

    # Anything else would run the stages.
    if json.loads(dvc("status", "--json")[1]) != {}:
        return f"`dvc repro` was not timed: `dvc status` names changes in {project}"
    repro, status = ([dvc(command)[0] for _ in range(repeats)] for command in ("repro", "status"))
    return f"`dvc repro`, nothing changed: {median(repro):.2f} s; `dvc status`: {median(status):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=SAMPLE, help="sample, or a folder as the parameter `source` takes it")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer; else one is made of the sentences")
    parser.add_argument("--form", nargs="+", choices=FORMS, default=["tsv"], help="of the repeated source: %(default)s")
    parser.add_argument("--sentences", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--project", type=Path, default=ROOT, help="where `dvc repro` is timed, %(default)s")
    parser.add_argument("--folder", type=Path, help="where to work, some gigabytes; else where temporary files are")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        print(json.dumps(vars(run_stage(arguments.stage))))
        return
    parts = read_checked(read_source(arguments.source, "ner", None))
    sizes = sorted(arguments.sentences)
    arguments.sentences = sizes
    with TemporaryDirectory(dir=arguments.folder) as folder:
        costs = measure(Path(folder), parts, arguments)
    print(f"\n{machine()}\n")
    print(shown(costs, sizes, arguments.repeats))
    print()
    print(unchanged(arguments.project, arguments.repeats))


if __name__ == "__main__":
    with told_plainly():
        main()
