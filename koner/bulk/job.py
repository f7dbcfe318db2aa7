"""A run over a corpus: what settles its output, kept beside it, so that a later run goes on with the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.answers import Offsets
from koner.bulk import line_rows, parquet_rows
from koner.bulk.blocks import Block, Piece, cut, read_blocks, write_blocks
from koner.bulk.files import CorpusFile, Folder, InputFormat, absolute, corpus_files, fingerprint
from koner.bulk.rows import Batch
from koner.errors import KonerError

REJECTED = "_rejected"
_MANIFEST, _PLAN, _COLUMNS = "_run/manifest.json", "_run/plan.parquet", "_run/columns.parquet"


@dataclass(frozen=True, slots=True)
class Job:
    """What settles the output of a run: the same job gives the same rows in the same files.

    `input` is an address and `files` the fingerprint of what it holds; `model` is DVC's hash of the model's folder.
    """

    input: str
    files: str
    format: InputFormat
    column: str
    into: str
    block_rows: int
    model: str
    min_score: float
    labels: list[str] | None
    offsets: Offsets


@dataclass(frozen=True, slots=True)
class Plan:
    """A job as its folder holds it: the columns of the input, and the blocks."""

    job: Job
    columns: pa.Schema
    blocks: list[Block]

    def read(self, piece: Piece) -> Iterator[Batch]:
        """Reads a piece of the input in batches."""
        return _READERS[self.job.format](piece, self.columns, self.job.column)


_READERS = {"parquet": parquet_rows.read, "jsonl": line_rows.read_json, "text": line_rows.read_text}


def prepare(
    source: str,
    folder: Folder,
    model: str,
    *,
    input_format: InputFormat | None = None,
    column: str = "text",
    into: str = "entities",
    block_rows: int = 10_000,
    min_score: float = 0.0,
    labels: list[str] | None = None,
    offsets: Offsets = "codepoint",
) -> Plan:
    """Makes a run's plan and keeps it in its folder, or takes the one that is there.

    Raises `KonerError` where the input can't be read, or the folder holds a run of other settings, another input or
    model, or something else.
    """
    source = absolute(source)
    if f"{folder.address}/".startswith(f"{source}/"):
        raise KonerError(f"{folder.address} lies in the input; give an OUTPUT outside of it")
    format_, files = corpus_files(source, input_format)
    job = Job(source, fingerprint(files), format_, column, into, block_rows, model, min_score, labels, offsets)
    if _MANIFEST.rpartition("/")[2] in folder.names("_run"):
        return _begun(job, folder)
    if folder.names() - {"_run"}:
        raise KonerError(f"{folder.address} holds something already, and no run of koner; give a new folder")
    plan = _planned(job, files)
    with folder.writing(_COLUMNS) as file:
        pq.write_table(plan.columns.empty_table(), file)
    with folder.writing(_PLAN) as file:
        write_blocks(file, plan.blocks)
    # The last: where it is, the others are.
    with folder.writing(_MANIFEST) as file:
        file.write((json.dumps(asdict(job), ensure_ascii=False, indent=2) + "\n").encode("utf-8"))
    return plan


def finished(folder: Folder) -> set[str]:
    """The names of the blocks that are done."""
    return {name for name in folder.names() if name.startswith("part-")}


def rejected_rows(folder: Folder) -> int:
    """How many rows a run has put aside."""
    rows = 0
    for name in folder.names(REJECTED):
        with folder.reading(f"{REJECTED}/{name}") as file, pq.ParquetFile(file) as parquet:
            rows += parquet.metadata.num_rows
    return rows


def _begun(job: Job, folder: Folder) -> Plan:
    with folder.reading(_MANIFEST) as file:
        begun: dict[str, Any] = json.loads(file.read())
    for name, value in asdict(job).items():
        if begun.get(name) != value:
            raise KonerError(f"{folder.address} {_otherwise(name, begun.get(name), value)}; give a new folder")
    with folder.reading(_COLUMNS) as file:
        columns = pq.read_schema(file)
    with folder.reading(_PLAN) as file:
        return Plan(job, columns, read_blocks(file))


def _otherwise(name: str, old: Any, new: Any) -> str:
    if name == "files":
        return "was begun on an input that has changed since"
    if name == "model":
        return f"was begun with another model, of the hash {old}, and this one has {new}"
    return f"was begun with {name} {old}, and now it is {new}"


def _planned(job: Job, files: list[CorpusFile]) -> Plan:
    if job.format == "parquet":
        counted, columns = parquet_rows.survey(files, job.column)
        blocks = list(cut(counted, job.block_rows))
    else:
        is_json = job.format == "jsonl"
        columns = line_rows.json_schema(files, job.column) if is_json else line_rows.text_schema(job.column)
        blocks = list(cut(line_rows.survey(files, job.block_rows), job.block_rows))
    if not blocks:
        raise KonerError(f"{job.input} has no rows")
    if job.into in columns.names:
        raise KonerError(f"the input has a column '{job.into}' already; name the new one by --into")
    return Plan(job, columns, blocks)
