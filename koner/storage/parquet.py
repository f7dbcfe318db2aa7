"""Parquet files, written and read in batches of rows with constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from koner.errors import KonerError
from koner.storage.outputs import atomic_file

ROW_GROUP = 10_000  # rows
BATCH = 1_000  # rows


def write_batches(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write batches of rows to a Parquet file, one row group at a time and as a whole, as `atomic_file` does.

    The bytes of the file do not depend on how the rows are divided into batches.

    Returns:
        The number of rows.
    """
    count = 0
    group = schema.empty_table()
    with atomic_file(path) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        for batch in batches:
            # Parquet does not keep the names of list items, but the writer compares them with the schema.
            table = pa.Table.from_arrays(batch.columns, schema=schema)
            count += table.num_rows
            group = pa.concat_tables([group, table])
            while group.num_rows >= ROW_GROUP:
                writer.write_table(group.slice(0, ROW_GROUP).combine_chunks())
                group = group.slice(ROW_GROUP)
        writer.write_table(group.combine_chunks())
    return count


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Write rows to a Parquet file as `write_batches` does, and return their number."""
    rows = iter(rows)
    batches = iter(lambda: list(islice(rows, BATCH)), [])
    return write_batches(path, (pa.RecordBatch.from_pylist(batch, schema) for batch in batches), schema)


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file in batches, all columns or some.

    Raises:
        KonerError: If the file does not exist.
    """
    _check_exists(path)
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=BATCH, columns=columns)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file as `read_batches` does."""
    for batch in read_batches(path, columns):
        yield from batch.to_pylist()


def sample_rows(path: Path, count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` rows of a Parquet file at even distances, or all if it has fewer."""
    total = count_rows(path)
    chosen = np.arange(min(count, total)) * total // max(1, min(count, total))
    start = 0
    for batch in read_batches(path):
        inside = chosen[(chosen >= start) & (chosen < start + batch.num_rows)]
        yield from batch.take(pa.array(inside - start)).to_pylist()
        start += batch.num_rows


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file, from its footer.

    Raises:
        KonerError: If the file does not exist.
    """
    _check_exists(path)
    return int(pq.read_metadata(path).num_rows)


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise KonerError(f"{path} is missing; run `dvc repro`")
