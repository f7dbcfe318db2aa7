"""Tagging a block of a corpus into a file of the output, in the same way under every engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.bulk.addresses import translate_errors
from koner.bulk.blocks import Block
from koner.bulk.folder import Folder
from koner.bulk.plan import REJECTED, Plan
from koner.bulk.rows import REJECTED_SCHEMA
from koner.errors import KonerError
from koner.inference.answers import AnswerEntity, build_answers
from koner.release.hashing import folder_hash
from koner.storage.parquet import ROW_GROUP

if TYPE_CHECKING:
    from koner.inference.tagger import Tagger

_ARROW_TYPES: dict[Any, pa.DataType] = {float: pa.float64(), int: pa.int32()}
# The fields of an entity in an answer; those that are no numbers are strings.
ENTITY = pa.struct(
    [(name, _ARROW_TYPES.get(field.annotation, pa.string())) for name, field in AnswerEntity.model_fields.items()]
)
# The texts that are tagged at once have at most this many characters, which bounds the tagger's memory.
_GROUP_CHARACTERS = 1 << 18
_ROW_GROUP_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class BlockResult:
    """A finished block: its number, and its numbers of tagged and rejected rows."""

    number: int
    tagged: int
    rejected: int


def hash_model(folder: Path) -> str:
    """Return DVC's hash of the folder of a model.

    Raises:
        KonerError: If a file in it can't be read.
    """
    with translate_errors(str(folder)):
        return folder_hash(folder)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model that every worker loads.

    Attributes:
        folder: The folder of the model.
        hash: The hash of the folder when the run started.
        device: The device that runs the model; None for the fastest one of the worker's machine.
        threads: The number of threads of each worker.
    """

    folder: Path
    hash: str
    device: str | None = None
    threads: int = 1

    def load(self) -> Tagger:
        """Load the model.

        Raises:
            KonerError: If the folder can't be read, or has changed since the run started.
        """
        # The tokenizer reads this variable when it first runs; without it, every worker would use all cores.
        os.environ["RAYON_NUM_THREADS"] = str(self.threads)
        if hash_model(self.folder) != self.hash:
            raise KonerError(f"{self.folder} has changed since the run started; run the command again")
        from koner.inference.tagger import Tagger

        return Tagger.load(self.folder, self.device, self.threads)


class BlockTagger:
    """A tagger of blocks with its own model, which is loaded for the first block.

    Args:
        plan: The plan of the run.
        folder: The output folder.
        load: A function that loads the model.
    """

    def __init__(self, plan: Plan, folder: Folder, load: Callable[[], Tagger]) -> None:
        self._plan = plan
        self._folder = folder
        self._load = load
        self._tagger: Tagger | None = None

    def __call__(self, block: Block) -> BlockResult:
        """Tag a block and write its output file, in memory that does not grow with the block.

        The file of the malformed rows is completed first. An output file that exists is kept.

        Raises:
            KonerError: If the input can't be read or is not the one that was planned, or the output can't be written.
        """
        if self._folder.has(block.name):  # an engine may assign a finished block again
            return self._read_result(block)
        columns, manifest = self._plan.columns, self._plan.manifest
        entities_field = pa.field(manifest.into, pa.list_(ENTITY))
        with ExitStack() as stack:
            output = stack.enter_context(_open_output(self._folder, block.name, columns.append(entities_field)))
            # Closed before the output: if the output file exists, the rejected rows are complete.
            rejected_stack = stack.enter_context(ExitStack())
            rejected: _Output | None = None
            for batch in self._plan.read_block(block):
                entities = pa.array(self._tag_texts(batch.texts), pa.list_(ENTITY))
                output.write(batch.table.append_column(entities_field, entities))
                if batch.rejected:
                    rejected = rejected or rejected_stack.enter_context(
                        _open_output(self._folder, f"{REJECTED}/{block.name}", REJECTED_SCHEMA)
                    )
                    rejected.write(pa.Table.from_pylist([row.to_row() for row in batch.rejected], REJECTED_SCHEMA))
        return BlockResult(block.number, output.rows, rejected.rows if rejected else 0)

    def _read_result(self, block: Block) -> BlockResult:
        with self._folder.open_to_read(block.name) as file, pq.ParquetFile(file) as parquet:
            tagged = parquet.metadata.num_rows
        return BlockResult(block.number, tagged, block.rows - tagged)

    def _tag_texts(self, texts: list[str]) -> Iterator[list[dict[str, Any]]]:
        tagger = self._tagger = self._tagger or self._load()
        manifest = self._plan.manifest
        for group in group_texts(texts):
            answers = build_answers(
                group,
                [tagged.entities for tagged in tagger.tag_all(group)],
                offsets=manifest.offsets,
                min_score=manifest.min_score,
                labels=manifest.labels,
            )
            for answer in answers:
                yield answer.model_dump()["result"]


class _Output:
    """A Parquet file written in row groups of bounded rows and bytes; `rows` is the number of rows so far."""

    def __init__(self, writer: pq.ParquetWriter, address: str) -> None:
        self.rows = 0
        self._writer = writer
        self._address = address
        self._buffer: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        self._buffer.append(table.cast(self._writer.schema))
        rows = sum(buffered.num_rows for buffered in self._buffer)
        size = sum(buffered.nbytes for buffered in self._buffer)
        if rows >= ROW_GROUP or size >= _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows as a row group."""
        if self._buffer:
            with translate_errors(self._address, "write"):
                self._writer.write_table(pa.concat_tables(self._buffer))
            self._buffer = []


@contextmanager
def _open_output(folder: Folder, name: str, schema: pa.Schema) -> Iterator[_Output]:
    """Open a Parquet file of a folder for an atomic write."""
    address = f"{folder.address}/{name}"
    with folder.open_to_write(name) as file:
        writer = pq.ParquetWriter(file, schema, compression="zstd")
        output = _Output(writer, address)
        try:
            yield output
            output.flush()
        except BaseException:
            # Close the writer before the file: its finalizer raises otherwise.
            with suppress(Exception):
                writer.close()
            raise
        with translate_errors(address, "write"):
            writer.close()


def group_texts(texts: list[str]) -> Iterator[list[str]]:
    """Divide texts into groups of at most `_GROUP_CHARACTERS` characters, or of one longer text."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) > _GROUP_CHARACTERS:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group
