"""Parquet files written and read in batches of rows, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.errors import KonerError

ROW_GROUP = 10_000
BATCH = 1_000  # rows


def write_batches(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Writes batches of rows to a Parquet file group by group, in constant memory; returns the number of rows.

    The file's bytes do not depend on where one batch ends and the next begins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    group = schema.empty_table()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            # The names of lists' items are lost in Parquet, and the writer wants them as in the schema.
            named = pa.Table.from_arrays(batch.columns, schema=schema)
            count += named.num_rows
            group = pa.concat_tables([group, named])
            while group.num_rows >= ROW_GROUP:
                writer.write_table(group.slice(0, ROW_GROUP).combine_chunks())
                group = group.slice(ROW_GROUP)
        writer.write_table(group.combine_chunks())
    return count


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Writes rows to a Parquet file as `write_batches` does."""
    rows = iter(rows)
    batches = iter(lambda: list(islice(rows, BATCH)), [])
    return write_batches(path, (pa.RecordBatch.from_pylist(batch, schema) for batch in batches), schema)


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Reads a Parquet file, or some of its columns, in batches of rows, in constant memory.

    Raises `KonerError` where there is no such file.
    """
    if not path.is_file():
        raise KonerError(f"{path} is missing; run `dvc repro`")
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=BATCH, columns=columns)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Reads the rows of a Parquet file as `read_batches` does."""
    for batch in read_batches(path, columns):
        yield from batch.to_pylist()


def count_rows(path: Path) -> int:
    """The number of rows of a Parquet file, read off its foot."""
    return int(pq.read_metadata(path).num_rows)
