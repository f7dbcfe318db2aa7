"""A block of a corpus to a file of the output, the same way under every engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.answers import answer
from koner.bulk.blocks import Block
from koner.bulk.files import Folder, told
from koner.bulk.job import REJECTED, Plan
from koner.bulk.rows import REJECTED_SCHEMA, Batch
from koner.errors import KonerError
from koner.locking import folder_hash
from koner.parquet import ROW_GROUP

if TYPE_CHECKING:
    from koner.tagger import Tagger

# An entity as `POST /infer` answers it.
ENTITY = pa.struct(
    [
        ("entity_group", pa.string()),
        ("score", pa.float64()),
        ("word", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
    ]
)
# Texts beyond these go to the tagger later, so that what it holds at once is bounded.
_CHARACTERS = 1 << 18
_ROW_GROUP_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Done:
    """A block that is done, and how many rows of it were tagged and put aside."""

    number: int
    tagged: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model that workers load, its hash, and what each runs it on; `device` None is what is fastest there."""

    folder: Path
    hash: str
    device: str | None = None
    threads: int = 1

    def load(self) -> Tagger:
        """Loads the model; raises `KonerError` where its folder no longer holds the one the run began with."""
        # The tokenizer would take every core, however many workers share them. Read when it first runs.
        os.environ["RAYON_NUM_THREADS"] = str(self.threads)
        if folder_hash(self.folder) != self.hash:
            raise KonerError(f"{self.folder} has changed since the run began; start it again")
        from koner.tagger import Tagger

        return Tagger.load(self.folder, self.device, self.threads)


class BlockTagger:
    """Tags blocks of a plan into a folder, one after another, with a model of its own that it loads for the first."""

    def __init__(self, plan: Plan, address: str, load: Callable[[], Tagger]) -> None:
        self._plan = plan
        self._folder = Folder(address)
        self._load = load
        self._tagger: Tagger | None = None

    def __call__(self, block: Block) -> Done:
        """Reads a block, tags it and writes its file, its malformed rows first; one that is there stays.

        Constant in memory however large the block. Raises `KonerError` where its input can't be read.
        """
        if self._folder.has(block.name):  # an engine may hand out a block again that had been done
            return self._found(block)
        columns, job = self._plan.columns, self._plan.job
        with ExitStack() as whole:
            part = whole.enter_context(_written(self._folder, block.name, columns.append(_field(job.into))))
            # It ends before the part does: where that is, its malformed rows are.
            aside = whole.enter_context(ExitStack())
            rejected: _Part | None = None
            for batch in self._batches(block):
                entities = pa.array(self._entities(batch.texts), pa.list_(ENTITY))
                part.write(batch.table.append_column(_field(job.into), entities))
                if batch.rejected:
                    name = f"{REJECTED}/{block.name}"
                    rejected = rejected or aside.enter_context(_written(self._folder, name, REJECTED_SCHEMA))
                    rejected.write(pa.Table.from_pylist([r.to_row() for r in batch.rejected], REJECTED_SCHEMA))
        return Done(block.number, part.rows, rejected.rows if rejected else 0)

    def _found(self, block: Block) -> Done:
        with self._folder.reading(block.name) as file, pq.ParquetFile(file) as parquet:
            tagged = parquet.metadata.num_rows
        return Done(block.number, tagged, block.rows - tagged)

    def _batches(self, block: Block) -> Iterator[Batch]:
        for piece in block.pieces:
            with told(piece.address):
                yield from self._plan.read(piece)

    def _entities(self, texts: list[str]) -> Iterator[list[dict[str, Any]]]:
        tagger = self._tagger = self._tagger or self._load()
        job = self._plan.job
        for group in _groups(texts):
            for text, tagged in zip(group, tagger.tag_all(group), strict=True):
                found = answer(text, tagged, offsets=job.offsets, min_score=job.min_score, labels=job.labels)
                yield found["result"]


class _Part:
    """A Parquet file that is written in row groups of bounded rows and bytes."""

    def __init__(self, writer: pq.ParquetWriter, address: str) -> None:
        self.rows = 0
        self._writer = writer
        self._address = address
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Adds rows."""
        self.rows += table.num_rows
        self._waiting.append(table.cast(self._writer.schema))
        waiting = sum(t.num_rows for t in self._waiting), sum(t.nbytes for t in self._waiting)
        if waiting[0] >= ROW_GROUP or waiting[1] >= _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait as a row group."""
        if self._waiting:
            with told(self._address, "write"):
                self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []


@contextmanager
def _written(folder: Folder, name: str, schema: pa.Schema) -> Iterator[_Part]:
    address = f"{folder.address}/{name}"
    with folder.writing(name) as file:
        writer = pq.ParquetWriter(file, schema, compression="zstd")
        part = _Part(writer, address)
        try:
            yield part
            part.flush()
        except BaseException:
            # Before the file is, or it would complain when it is collected.
            with suppress(Exception):
                writer.close()
            raise
        with told(address, "write"):
            writer.close()


def _field(name: str) -> pa.Field:
    return pa.field(name, pa.list_(ENTITY))


def _groups(texts: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) > _CHARACTERS:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group
