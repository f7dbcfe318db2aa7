"""The plan of a run over a corpus, stored in the output folder so that an interrupted run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.bulk import line_rows, parquet_rows
from koner.bulk.addresses import absolute_address, translate_errors
from koner.bulk.blocks import Block, Piece, read_blocks, split_into_blocks, write_blocks
from koner.bulk.choices import InputFormat
from koner.bulk.files import CorpusFile, changed_error, check_version, find_corpus_files, fingerprint
from koner.bulk.folder import BLOCKS, COLUMNS, MANIFEST, RUN_FOLDER, Folder
from koner.bulk.rows import Batch
from koner.errors import KonerError
from koner.inference.offsets import OffsetUnit

REJECTED = "_rejected"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that determines the output of a run: equal manifests mean equal rows in equal files.

    Attributes:
        input: The address of the corpus.
        files: The fingerprint of its files.
        format: Their format.
        column: The column that holds the texts.
        into: The name of the new column.
        block_rows: The number of rows per block.
        model: The hash of the model's folder, as DVC computes it.
        min_score: The lowest score of an entity in the output.
        labels: The entity types in the output; None for all.
        offsets: The unit of an entity's start and end.
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
    offsets: OffsetUnit


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run: its manifest, the columns of the input, the blocks, and the files of the input."""

    manifest: Manifest
    columns: pa.Schema
    blocks: list[Block]
    files: list[CorpusFile]

    def read(self, piece: Piece) -> Iterator[Batch]:
        """Yield the rows of a piece of the input in batches."""
        return _READERS[self.manifest.format](piece, self.columns, self.manifest.column)

    def read_block(self, block: Block) -> Iterator[Batch]:
        """Yield the rows of a block in batches.

        Raises:
            KonerError: If the input can't be read or is not the one that was planned.
        """
        for piece in block.pieces:
            try:
                with translate_errors(piece.address):
                    yield from self.read(piece)
            except KonerError:
                check_version(piece.address, piece.version)  # the reason for most errors, if it has changed
                raise
            check_version(piece.address, piece.version)


_READERS = {"parquet": parquet_rows.read, "jsonl": line_rows.read_json, "text": line_rows.read_text}


def prepare_plan(
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
    offsets: OffsetUnit = "codepoint",
) -> Plan:
    """Create the plan of a run and store it in the output folder, or load the plan that the folder holds.

    Args:
        source: The address of the corpus.
        folder: The output folder.
        model: The hash of the model.
        input_format: The format of the files; None to infer it from their extensions.
        column: The column that holds the texts.
        into: The name of the new column.
        block_rows: The number of rows per block.
        min_score: The lowest score of an entity in the output.
        labels: The entity types in the output; None for all.
        offsets: The unit of an entity's start and end.

    Raises:
        KonerError: If the input can't be read, or the folder holds a run with other settings, another input or
            another model, or anything else.
    """
    source = absolute_address(source)
    if f"{folder.address}/".startswith(f"{source}/"):
        raise KonerError(f"{folder.address} is inside the input; give an OUTPUT outside it")
    format_, files = find_corpus_files(source, input_format)
    manifest = Manifest(
        source, fingerprint(files), format_, column, into, block_rows, model, min_score, labels, offsets
    )
    if folder.has(MANIFEST):
        return _load_plan(manifest, files, folder)
    if folder.names() - {RUN_FOLDER}:
        raise KonerError(f"{folder.address} is not empty and holds no run of koner; give a new folder")
    plan = _create_plan(manifest, files)
    _store_plan(plan, folder)
    return plan


def plan_reading(source: str, input_format: InputFormat | None, column: str, block_rows: int) -> Plan:
    """Create the plan of a run that only reads: it is not stored, and no model is part of it.

    Args:
        source: The address of the corpus.
        input_format: The format of the files; None to infer it from their extensions.
        column: The column that holds the texts.
        block_rows: The number of rows per block.

    Raises:
        KonerError: If the input can't be read.
    """
    source = absolute_address(source)
    format_, files = find_corpus_files(source, input_format)
    manifest = Manifest(source, fingerprint(files), format_, column, "", block_rows, "", 0.0, None, "codepoint")
    return _create_plan(manifest, files)


def check_input(plan: Plan) -> None:
    """Check at the end of a run that the input still consists of the files that were planned.

    Raises:
        KonerError: If a file is missing, new or changed; the message names it.
    """
    _, files = find_corpus_files(plan.manifest.input, plan.manifest.format)
    if changed := sorted({file.address for file in set(files) ^ set(plan.files)}):
        raise changed_error(changed[0])


def finished_blocks(folder: Folder) -> set[str]:
    """Return the names of the blocks whose output files are complete."""
    return {name for name in folder.names() if name.startswith("part-")}


def count_rejected_rows(folder: Folder) -> int:
    """Return the number of rows that a run rejected."""
    rows = 0
    for name in folder.names(REJECTED):
        with folder.open_to_read(f"{REJECTED}/{name}") as file, pq.ParquetFile(file) as parquet:
            rows += parquet.metadata.num_rows
    return rows


def _create_plan(manifest: Manifest, files: list[CorpusFile]) -> Plan:
    if manifest.format == "parquet":
        counted_files, columns = parquet_rows.read_footers(files, manifest.column)
        blocks = list(split_into_blocks(counted_files, manifest.block_rows))
    else:
        is_json = manifest.format == "jsonl"
        text_column = manifest.column
        columns = line_rows.infer_json_schema(files, text_column) if is_json else line_rows.text_schema(text_column)
        blocks = list(split_into_blocks(line_rows.count_lines(files, manifest.block_rows), manifest.block_rows))
    if not blocks:
        raise KonerError(f"{manifest.input} has no rows")
    if manifest.into in columns.names:
        raise KonerError(f"the input already has a column '{manifest.into}'; name the new column by --into")
    return Plan(manifest, columns, blocks, files)


def _store_plan(plan: Plan, folder: Folder) -> None:
    with folder.open_to_write(COLUMNS) as file:
        pq.write_table(plan.columns.empty_table(), file)
    with folder.open_to_write(BLOCKS) as file:
        write_blocks(file, plan.blocks)
    # Written last: if the manifest exists, the other files are complete.
    with folder.open_to_write(MANIFEST) as file:
        file.write((json.dumps(asdict(plan.manifest), ensure_ascii=False, indent=2) + "\n").encode("utf-8"))


def _load_plan(manifest: Manifest, files: list[CorpusFile], folder: Folder) -> Plan:
    """Load the plan of a folder if it belongs to a run with the same manifest."""
    with translate_errors(f"{folder.address}/{MANIFEST}"), folder.open_to_read(MANIFEST) as file:
        stored: dict[str, Any] = dict(json.loads(file.read()))
    for name, value in asdict(manifest).items():
        if stored.get(name) != value:
            difference = _describe_difference(name, stored.get(name), value)
            raise KonerError(f"{folder.address} holds a run with {difference}; give a new folder")
    with translate_errors(f"{folder.address}/{COLUMNS}"), folder.open_to_read(COLUMNS) as file:
        columns = pq.read_schema(file)
    with translate_errors(f"{folder.address}/{BLOCKS}"), folder.open_to_read(BLOCKS) as file:
        return Plan(manifest, columns, read_blocks(file), files)


def _describe_difference(name: str, stored: Any, current: Any) -> str:
    if name == "files":
        return "an input that has changed since"
    if name == "model":
        return f"another model (its hash is {stored}, and the hash of this one is {current})"
    return f"{name} {stored}, not {current}"
