"""Rows of Parquet files; all columns but the text stay as they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import SEEK_END
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh3_128_hexdigest

from koner.bulk.addresses import translate_errors
from koner.bulk.blocks import CountedFile, Piece
from koner.bulk.files import CorpusFile, changed_error, open_file
from koner.bulk.rows import BATCH_ROWS, Batch, RejectedRow, check_text, decode_utf8
from koner.errors import KonerError, first_line

# Reading a footer from remote storage is mostly waiting.
_FOOTER_THREADS = 16
_FOOTER_BYTES = 1 << 16  # what pyarrow reads first, so that one request to remote storage serves both

_MAX_NANOSECONDS = 2**63 - 1  # since 1970


def read_footers(files: Sequence[CorpusFile], column: str) -> tuple[list[CountedFile], pa.Schema]:
    """Read the footers of files: their numbers of rows, and the schema that holds the rows of every file.

    Raises:
        KonerError: If the schemas of the files are incompatible, or the text column is missing or holds no strings.
    """
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        footers = list(pool.map(_read_footer, files))
    schema = _merge_schemas(files, [file_schema for _, file_schema in footers])
    if column not in schema.names:
        raise KonerError(f"the input has no column '{column}'; it has {', '.join(schema.names)} (choose by --column)")
    if not _holds_text(schema.field(column).type):
        raise KonerError(f"the column '{column}' holds {schema.field(column).type}, not strings")
    return [counted_file for counted_file, _ in footers], schema


def read(piece: Piece, schema: pa.Schema, column: str) -> Iterator[Batch]:
    """Yield the rows of a piece in batches, cast to `schema`, in constant memory.

    A row is malformed if its text is null, too long or not UTF-8.

    Raises:
        KonerError: If the file has another footer than when the run was planned, or fewer rows than its footer counts,
            or a value does not fit its column.
    """
    end = piece.first + piece.rows
    with open_file(piece.address) as file, _open_parquet(file) as parquet:
        if _hash_footer(file) != piece.digest:
            raise changed_error(piece.address)
        groups, number = _find_row_groups(parquet.metadata, piece)
        nanoseconds = _read_int96(piece.address, parquet.schema, groups)
        for record_batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups):
            _check_int96(record_batch, next(nanoseconds, None), piece.address)
            first = max(piece.first - number, 0)
            rows = record_batch.slice(first, max(end - number - first, 0))
            if rows.num_rows:
                yield _check_rows(pa.Table.from_batches([rows]), piece.address, number + first, schema, column)
            number += record_batch.num_rows
            if number >= end:
                return
    raise KonerError(f"{piece.address} is damaged: it ends after row {number}, before row {end} that its footer counts")


def _read_footer(file: CorpusFile) -> tuple[CountedFile, pa.Schema]:
    with translate_errors(file.address), open_file(file.address) as stream, _open_parquet(stream) as parquet:
        counted_file = CountedFile(file, parquet.metadata.num_rows, _hash_footer(stream))
        # pandas and others store metadata about the input that would be wrong for the output.
        schema = parquet.schema_arrow.remove_metadata()
    [(name, count)] = Counter(schema.names).most_common(1) or [("", 0)]
    if count > 1:
        raise KonerError(f"{file.address} has {count} columns '{name}'; rename them")
    return counted_file, schema


def _open_parquet(file: IO[bytes]) -> pq.ParquetFile:
    """Open a Parquet file whose INT96 timestamps are read as microseconds.

    As nanoseconds, which pyarrow reads by default, 9999-12-31 would become a day in 1816 without an error.
    """
    return pq.ParquetFile(file, coerce_int96_timestamp_unit="us")


def _read_int96(address: str, schema: pq.ParquetSchema, groups: list[int]) -> Iterator[pa.RecordBatch]:
    """Yield batches of the INT96 columns as nanoseconds; none if there is no such column."""
    columns = [schema.column(i) for i in range(len(schema))]
    if names := [column.name for column in columns if column.physical_type == "INT96" and column.path == column.name]:
        with open_file(address) as file, pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=names)


def _check_int96(rows: pa.RecordBatch, nanoseconds: pa.RecordBatch | None, address: str) -> None:
    """Check that INT96 timestamps have no digits below microseconds.

    Raises:
        KonerError: If one has.
    """
    if nanoseconds is None:
        return
    for name in nanoseconds.schema.names:
        us, ns = rows.column(name).cast(pa.int64()), nanoseconds.column(name).cast(pa.int64())
        differs = pc.not_equal(pc.multiply(us, 1000), ns)
        # Nanoseconds of other days are wrong, see above.
        if pc.any(pc.and_(differs, pc.less_equal(pc.abs(us), _MAX_NANOSECONDS // 1000))).as_py():
            raise KonerError(
                f"{address}: the column '{name}' has INT96 timestamps in nanoseconds, which would be rounded"
            )


def _hash_footer(file: IO[bytes]) -> str:
    """Return a digest of the footer of a Parquet file, which holds the place, size and statistics of every column."""
    size = file.seek(0, SEEK_END)
    file.seek(max(size - _FOOTER_BYTES, 0))
    tail = file.read()
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length > len(tail):
        file.seek(max(size - length, 0))
        tail = file.read()
    return str(xxh3_128_hexdigest(tail[-length:]))


def _merge_schemas(files: Sequence[CorpusFile], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the schema that holds the rows of every file without a loss.

    Raises:
        KonerError: If there is none; the message names the file.
    """
    merged = schemas[0]
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        try:
            merged = pa.unify_schemas([merged, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise KonerError(f"the columns of {file.address} don't match {files[0].address}: {error}") from None
    for file, schema in zip(files, schemas, strict=True):
        for field in schema:
            if _rounds(field.type, merged.field(field.name).type):
                raise KonerError(
                    f"the column '{field.name}' is {field.type} in {file.address} and {merged.field(field.name).type} "
                    "in another file, which can't hold every decimal number; convert one of them"
                )
    # A file without a column has nulls there.
    in_all = set(merged.names).intersection(*(schema.names for schema in schemas))
    return pa.schema([field if field.name in in_all else field.with_nullable(True) for field in merged])


def _rounds(type_: pa.DataType, merged: pa.DataType) -> bool:
    """Return whether a cast to a merged type may round a value without an error: of decimal numbers to floats."""
    if pa.types.is_decimal(type_):
        return bool(pa.types.is_floating(merged))
    by_name = pa.types.is_struct(type_)
    children = (type_.field(i) for i in range(type_.num_fields))
    return any(_rounds(child.type, merged.field(child.name if by_name else i).type) for i, child in enumerate(children))


def _holds_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return any(test(type_) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _find_row_groups(metadata: pq.FileMetaData, piece: Piece) -> tuple[list[int], int]:
    """Return the row groups that hold rows of a piece, and the number of the first row in them."""
    begin = first_row = 0
    groups: list[int] = []
    for group in range(metadata.num_row_groups):
        end = begin + metadata.row_group(group).num_rows
        if begin < piece.first + piece.rows and end > piece.first:
            first_row = first_row if groups else begin
            groups.append(group)
        begin = end
    return groups, first_row


def _check_rows(table: pa.Table, address: str, first: int, schema: pa.Schema, column: str) -> Batch:
    """Cast rows to `schema` and separate the malformed ones; `first` is the number of the first row, from 0."""
    table = pa.table([_cast_column(table, field, address) for field in schema], schema)
    texts: list[str] = []
    rejected: list[RejectedRow] = []
    is_valid: list[bool] = []
    # Decoded one by one, so that a text that is not UTF-8 rejects its own row only.
    for i, value in enumerate(_to_bytes(table.column(column))):
        try:
            texts.append(check_text(None if value is None else decode_utf8(value), column))
            is_valid.append(True)
        except ValueError as error:
            rejected.append(RejectedRow(address, first + i + 1, str(error), _format_row(table.slice(i, 1), column)))
            is_valid.append(False)
    return Batch(table.filter(pa.array(is_valid)) if rejected else table, texts, rejected)


def _cast_column(table: pa.Table, field: pa.Field, address: str) -> pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    try:
        return table.column(field.name).cast(field.type)
    except pa.ArrowInvalid as error:
        raise KonerError(
            f"{address}: a value in the column '{field.name}' does not fit its type {field.type}: {first_line(error)}"
        ) from None


def _to_bytes(values: pa.ChunkedArray) -> list[bytes | None]:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.large_string())
    byte_strings: list[bytes | None] = values.cast(pa.large_binary()).to_pylist()
    return byte_strings


def _format_row(row: pa.Table, column: str) -> str:
    """Format a malformed row as JSON; invalid bytes of the text are escaped, other unreadable values become null."""
    [text] = _to_bytes(row.column(column))
    values: dict[str, Any] = {column: text.decode("utf-8", "backslashreplace") if text is not None else None}
    for name in row.column_names:
        if name != column:
            try:
                [values[name]] = row.column(name).to_pylist()
            except Exception:  # Arrow raises many kinds, such as OverflowError for a date before the year 1
                values[name] = None
    return json.dumps({name: values[name] for name in row.column_names}, ensure_ascii=False, default=str)
