"""Rows of Parquet files, all columns but the text untouched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.bulk.blocks import Counted, Piece
from koner.bulk.files import CorpusFile, opened, told
from koner.bulk.rows import BATCH_ROWS, Batch, Rejected, checked_text, decoded
from koner.errors import KonerError

# Footers are read from far away, one after another.
_FOOTERS_AT_ONCE = 16


def survey(files: Sequence[CorpusFile], column: str) -> tuple[list[Counted], pa.Schema]:
    """Reads the files' footers: how many rows, and the columns of all, of types that hold those of every file.

    Raises `KonerError` where files don't go together or the column isn't there or holds no strings.
    """
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        footers = list(pool.map(_footer, files))
    schema = footers[0][1]
    for file, (_, found) in zip(files[1:], footers[1:], strict=True):
        try:
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        except pa.ArrowException as error:
            raise KonerError(f"{file.address} doesn't go with {files[0].address}: {error}") from None
    if column not in schema.names:
        raise KonerError(f"the input has no column '{column}'; it has {', '.join(schema.names)} (choose by --column)")
    if not _holds_text(schema.field(column).type):
        raise KonerError(f"the column '{column}' holds {schema.field(column).type}, not strings")
    return [Counted(file.address, rows) for file, (rows, _) in zip(files, footers, strict=True)], schema


def read(piece: Piece, schema: pa.Schema, column: str) -> Iterator[Batch]:
    """Reads a piece in batches, in constant memory, brought to the columns of `schema`.

    A row is malformed whose text is null, too long or not UTF-8.
    """
    with opened(piece.address) as file, pq.ParquetFile(file) as parquet:
        begin = skipped = 0
        groups: list[int] = []
        for group in range(parquet.metadata.num_row_groups):
            end = begin + parquet.metadata.row_group(group).num_rows
            if begin < piece.first + piece.rows and end > piece.first:
                skipped = skipped if groups else begin
                groups.append(group)
            begin = end
        number = skipped
        for found in parquet.iter_batches(BATCH_ROWS, row_groups=groups):
            first = max(piece.first - number, 0)
            batch = found.slice(first, max(piece.first + piece.rows - number - first, 0))
            if batch.num_rows:
                yield _checked(pa.Table.from_batches([batch]), piece.address, number + first, schema, column)
            number += found.num_rows
            if number >= piece.first + piece.rows:
                return


def _footer(file: CorpusFile) -> tuple[int, pa.Schema]:
    with told(file.address), opened(file.address) as stream, pq.ParquetFile(stream) as parquet:
        # What pandas and others note there is of the input, and would be wrong of the output.
        return parquet.metadata.num_rows, parquet.schema_arrow.remove_metadata()


def _holds_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return any(test(type_) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _checked(table: pa.Table, address: str, first: int, schema: pa.Schema, column: str) -> Batch:
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    table = table.select(schema.names).cast(schema)
    texts: list[str] = []
    rejected: list[Rejected] = []
    sound: list[bool] = []
    # As bytes: a text that isn't UTF-8 is a fault of its row only.
    for i, value in enumerate(_bytes(table.column(column))):
        try:
            texts.append(checked_text(None if value is None else decoded(value), column))
            sound.append(True)
        except ValueError as fault:
            rejected.append(Rejected(address, first + i + 1, str(fault), _shown(table.slice(i, 1), column)))
            sound.append(False)
    return Batch(table.filter(pa.array(sound)) if rejected else table, texts, rejected)


def _bytes(values: pa.ChunkedArray) -> list[bytes | None]:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.large_string())
    found: list[bytes | None] = values.cast(pa.large_binary()).to_pylist()
    return found


def _shown(row: pa.Table, column: str) -> str:
    [value] = _bytes(row.column(column))
    shown: dict[str, Any] = {column: value.decode("utf-8", "backslashreplace") if value is not None else None}
    for name in row.column_names:
        if name != column:
            try:
                [shown[name]] = row.column(name).to_pylist()
            except UnicodeDecodeError:
                shown[name] = None
    return json.dumps({name: shown[name] for name in row.column_names}, ensure_ascii=False, default=str)
