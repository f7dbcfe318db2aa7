"""Measure time and memory of the stages before training.

    python -m benchmarks.stages [--source FOLDER] [--tokenizer FOLDER] [--form tsv hub]

Runs the stages prepare (the base model exists already), retag and split on growing numbers of sentences, each in a new
process. The sentences are those of the source, repeated under new ids and with the number of the repeat appended, so
that all texts differ; a fifth of them is the validation part.

Prints seconds, sentences per second and core (CPU time over all threads) and peak memory, then the cost of each
additional sentence, which excludes the start-up. At the end it measures `dvc repro` if nothing has changed, against
`dvc status`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice, pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import ROOT, peak_memory, run_command, run_module
from benchmarks.reporting import MIB, describe_machine, format_median, format_table, make_parser
from koner.corpus.inline import write_inline
from koner.corpus.parts import TRAIN, VALIDATION
from koner.corpus.sentences import Sentence
from koner.corpus.sources import read_checked, read_source
from koner.errors import exit_on_error
from koner.labels.bio import OUTSIDE
from koner.labels.klue import KLUE
from koner.params import SAMPLE, SCRATCH
from koner.storage.parquet import BATCH
from koner.validation import read_yaml
from koner.versions import PIPELINE_FILE, VERSIONS_FILE

STAGES = ("prepare", "retag", "split")
FORMS = ("tsv", "hub")
_BASE_MODEL_SENTENCES = 2_000
# The stages need a base model, but its size does not affect them.
_SMALL = {"layers": 1, "hidden_size": 32, "heads": 2, "max_divergence": 1.0, "watch": "source"}
_HUB_README = f"""---
configs:
- config_name: ner
  data_files:
  - {{split: train, path: ner/train.parquet}}
  - {{split: validation, path: ner/validation.parquet}}
dataset_info:
  config_name: ner
  features:
  - {{name: sentence, dtype: string}}
  - {{name: tokens, list: string}}
  - {{name: ner_tags, list: {{class_label: {{names: {json.dumps({str(i): tag for i, tag in enumerate(KLUE.tags)})}}}}}}}
---
"""
_HUB_SCHEMA = pa.schema(
    [("sentence", pa.string()), ("tokens", pa.list_(pa.string())), ("ner_tags", pa.list_(pa.int64()))]
)


@dataclass(frozen=True)
class Cost:
    """The cost of a stage: seconds, CPU seconds, and memory before its start and at its peak in bytes."""

    seconds: float
    cpu: float
    before: int
    peak: int


Costs = dict[str, list[Cost]]


def run_stage(stage: str) -> Cost:
    """Run a stage in this process, in the working folder."""
    module = importlib.import_module(f"stages.{stage}")
    before = psutil.Process().memory_info().rss
    start, cpu_start = time.perf_counter(), time.process_time()
    module.main()
    return Cost(time.perf_counter() - start, time.process_time() - cpu_start, before, peak_memory())


def run_stage_in_process(stage: str, folder: Path) -> Cost:
    """Run a stage in a new process."""
    return Cost(**run_module("benchmarks.stages", "--stage", stage, folder=folder))


def repeat_sentences(sentences: list[Sentence]) -> Iterator[Sentence]:
    """Yield sentences without end, all with different ids and texts."""
    for repeat in count():
        suffix = f" {repeat}" if repeat else ""
        for s in sentences:
            yield Sentence(f"{s.id}-{repeat}", s.text + suffix, s.source, s.tags + (OUTSIDE,) * len(suffix), s.entities)


def write_tsv(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write sentences in the format of KLUE's TSV files."""
    with path.open("w", encoding="utf-8") as file:
        for s in sentences:
            file.write(f"## {s.id}\t{write_inline(s.text, s.entities)}\n")
            file.writelines(f"{character}\t{tag}\n" for character, tag in zip(s.text, s.tags, strict=True))
            file.write("\n")


def write_hub(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write sentences in the format of KLUE's Parquet files on the hub."""
    with pq.ParquetWriter(path, _HUB_SCHEMA) as writer:
        sentences = iter(sentences)
        while rows := list(islice(sentences, BATCH)):
            columns = [
                [write_inline(s.text, s.entities) for s in rows],
                [list(s.text) for s in rows],
                [[KLUE.tag_to_id[tag] for tag in s.tags] for s in rows],
            ]
            writer.write_table(pa.table(columns, schema=_HUB_SCHEMA))


def write_source(folder: Path, form: str, parts: dict[str, list[Sentence]], sentences: int) -> None:
    """Write a source with a number of sentences, four fifths of them in the training part."""
    sizes = {TRAIN: sentences - sentences // 5, VALIDATION: sentences // 5}
    (folder / "ner").mkdir(parents=True)
    if form == "hub":
        (folder / "README.md").write_text(_HUB_README)
    for part, size in sizes.items():
        part_sentences = islice(repeat_sentences(parts[part]), size)
        if form == "hub":
            write_hub(folder / "ner" / f"{part}.parquet", part_sentences)
        else:
            write_tsv(folder / f"{part}.tsv", part_sentences)


def write_params(folder: Path, **changes: object) -> None:
    """Write the parameters of the project with changes, and the other files that a stage reads."""
    params = read_yaml(ROOT / "params.yaml") | _SMALL | changes
    # JSON is valid YAML.
    (folder / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    (folder / VERSIONS_FILE).parent.mkdir()
    for path in (VERSIONS_FILE, PIPELINE_FILE):
        shutil.copyfile(ROOT / path, folder / path)


def prepare_base_model(folder: Path, parts: dict[str, list[Sentence]], tokenizer: Path | None) -> Path:
    """Create the base model that all runs share, and return its folder."""
    folder.mkdir()
    write_source(folder / "source", "tsv", parts, _BASE_MODEL_SENTENCES)
    changes = {"tokenizer": str(tokenizer.resolve())} if tokenizer else {}
    write_params(folder, source="source", base_model=SCRATCH, **changes)
    run_stage_in_process("prepare", folder)
    return (folder / "models/base").resolve()


def measure(folder: Path, parts: dict[str, list[Sentence]], arguments: argparse.Namespace) -> Costs:
    """Return the costs of each stage, in the order of the numbers of sentences and of the repeats.

    The forms of the source differ in the stage prepare only, so the other stages run for the first form.
    """
    base_model = prepare_base_model(folder / "first", parts, arguments.tokenizer)
    costs: Costs = {}
    for form in arguments.form:
        for sentences in arguments.sentences:
            run_folder = folder / f"{form}-{sentences}"
            run_folder.mkdir()
            write_source(run_folder / "source", form, parts, sentences)
            write_params(run_folder, source="source", base_model=str(base_model))
            for _ in range(arguments.repeats):
                for stage in STAGES if form == arguments.form[0] else STAGES[:1]:
                    cost = run_stage_in_process(stage, run_folder)
                    costs.setdefault(f"{stage}, {form}" if stage == "prepare" else stage, []).append(cost)
                    print(f"{form}, {stage}, {sentences}: {cost.seconds:.1f} s", flush=True)
            # Half a million sentences take gigabytes of disk space.
            shutil.rmtree(run_folder)
    return costs


def format_costs(costs: Costs, sizes: list[int], repeats: int) -> str:
    """Format the medians as two Markdown tables: in total, and for each additional sentence."""
    rows, marginal_rows = [], []
    for stage, stage_costs in costs.items():
        by_size = [stage_costs[i : i + repeats] for i in range(0, len(stage_costs), repeats)]
        cpu = [median(cost.cpu for cost in size_costs) for size_costs in by_size]
        peak = [median(cost.peak for cost in size_costs) for size_costs in by_size]
        for i, (size, size_costs) in enumerate(zip(sizes, by_size, strict=True)):
            before = format_median((cost.before / MIB for cost in size_costs), 0)
            seconds = format_median(cost.seconds for cost in size_costs)
            rows.append([f"{stage}, {size:,}", seconds, f"{size / cpu[i]:,.0f}", before, f"{peak[i] / MIB:.0f}"])
        for i, (small, large) in enumerate(pairwise(sizes)):
            rate = (large - small) / max(cpu[i + 1] - cpu[i], 1e-9)
            memory = (peak[i + 1] - peak[i]) / (large - small)
            marginal_rows.append([f"{stage}, {small:,} to {large:,}", f"{rate:,.0f}", f"{memory:.0f}"])
    head = ["stage, sentences", "seconds", "sentences/s per core", "MiB before", "peak MiB"]
    marginal_head = ["stage, each additional sentence", "sentences/s per core", "bytes of memory"]
    return f"{format_table(head, rows)}\n\n{format_table(marginal_head, marginal_rows)}"


def measure_unchanged(project: Path, repeats: int) -> str:
    """Measure `dvc repro` if nothing has changed, and `dvc status`."""

    def run_dvc(*command: str) -> tuple[float, str]:
        start = time.perf_counter()
        output = run_command(["dvc", *command], project, {"DVC_NO_ANALYTICS": "1"}, f"dvc {command[0]} in {project}")
        return time.perf_counter() - start, output

    # With changes, `dvc repro` would run the stages.
    if json.loads(run_dvc("status", "--json")[1]) != {}:
        return f"`dvc repro` was not measured: `dvc status` reports changes in {project}"
    repro, status = ([run_dvc(command)[0] for _ in range(repeats)] for command in ("repro", "status"))
    return f"`dvc repro`, nothing changed: {median(repro):.2f} s; `dvc status`: {median(status):.2f} s"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--source", default=SAMPLE, help="as the parameter `source`: sample, or a folder")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer (default: one built from the sentences)")
    parser.add_argument(
        "--form", nargs="+", choices=FORMS, default=["tsv"], help="format of the repeated source (default: tsv)"
    )
    parser.add_argument(
        "--sentences",
        type=int,
        nargs="+",
        default=[5_000, 50_000, 500_000],
        help="numbers of sentences (default: %(default)s)",
    )
    parser.add_argument("--repeats", type=int, default=1, help="runs of each stage (default: %(default)s)")
    parser.add_argument("--project", type=Path, default=ROOT, help="folder in which `dvc repro` is measured")
    parser.add_argument(
        "--folder", type=Path, help="folder for some gigabytes of data (default: that of temporary files)"
    )
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.stage:
        print(json.dumps(asdict(run_stage(arguments.stage))))
        return
    parts = read_checked(read_source(arguments.source, "ner", None))
    arguments.sentences.sort()
    with TemporaryDirectory(dir=arguments.folder) as folder:
        costs = measure(Path(folder), parts, arguments)
    print(f"\n{describe_machine()}\n\n{format_costs(costs, arguments.sentences, arguments.repeats)}\n")
    print(measure_unchanged(arguments.project, arguments.repeats))


if __name__ == "__main__":
    with exit_on_error():
        main()
