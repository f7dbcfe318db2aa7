"""Rows of text files and of JSON lines: UTF-8, one row per line."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from typing import Any

import jiter
import numpy as np
import pyarrow as pa
from xxhash import xxh3_128

from koner.bulk.addresses import translate_errors
from koner.bulk.blocks import CountedFile, Piece
from koner.bulk.compression import is_compressed
from koner.bulk.files import CorpusFile, changed_error, open_lines
from koner.bulk.json_types import build_schema, convert_value, infer_type, merge_types, read_types
from koner.bulk.rows import BATCH_ROWS, Batch, RejectedRow, check_text, decode_utf8
from koner.errors import KonerError
from koner.text.signatures import check_line_ends, cr_error

_CHUNK = 1 << 18  # bytes
_BATCH_BYTES = 1 << 22
_MAX_LINE_LENGTH = 1 << 24  # bytes
SAMPLE_ROWS = 10_000  # lines from which the columns of JSON lines are inferred


# A line's number, from 1, and its bytes; of a line that is too long, one byte more than the limit.
Line = tuple[int, bytes]


def count_lines(files: Sequence[CorpusFile], block_rows: int) -> Iterator[CountedFile]:
    """Count the lines of files, and find the byte offsets of the lines at which blocks begin."""
    room = block_rows
    for file in files:
        is_splittable = not is_compressed(file.address)
        counted_file = _count_file_lines(file, range(room, sys.maxsize, block_rows) if is_splittable else range(0))
        yield counted_file
        room -= counted_file.rows
        if room <= 0:
            room = block_rows - -room % block_rows if is_splittable else block_rows


def text_schema(column: str) -> pa.Schema:
    """Return the schema of a text file, which has one column."""
    return pa.schema([(column, pa.string())])


def infer_json_schema(files: Sequence[CorpusFile], column: str) -> pa.Schema:
    """Infer the columns of JSON lines from the first 10,000 lines, in the order of their first appearance.

    Raises:
        KonerError: If there is no line, or none of these lines is an object with the text column.
    """
    types: dict[str, Any] = {}
    lines = 0
    first_error = None
    for row in _sample_rows(files):
        lines += 1
        if isinstance(row, ValueError):
            first_error = first_error or row
            continue
        for name, value in row.items():
            types[name] = merge_types(types.get(name), infer_type(value))
    if not lines:
        raise KonerError("the input has no rows")
    if column not in types:
        fields = f"they have {', '.join(types)} (choose by --column)" if types else f"the first one: {first_error}"
        raise KonerError(f"none of the first {lines} lines of the input has a field '{column}'; {fields}")
    types[column] = "string"
    return build_schema(types)


def read_text(piece: Piece, schema: pa.Schema, column: str) -> Iterator[Batch]:
    """Yield the rows of a piece of a text file in batches; a row that is not UTF-8 or is too long is malformed."""
    for lines in _read_batches(piece):
        texts: list[str] = []
        rejected: list[RejectedRow] = []
        for number, line in lines:
            try:
                texts.append(check_text(decode_utf8(_check_length(line)), column))
            except ValueError as error:
                rejected.append(_reject(piece, number, line, error))
        yield Batch(pa.table({column: texts}, schema), texts, rejected)


def read_json(piece: Piece, schema: pa.Schema, column: str) -> Iterator[Batch]:
    """Yield the rows of a piece of JSON lines in batches.

    A row is malformed if it is not a JSON object, repeats a field, has a field without a column or a value that is not
    of its column's type, or has no text.
    """
    types = read_types(schema)
    for lines in _read_batches(piece):
        rows: list[dict[str, Any]] = []
        rejected: list[RejectedRow] = []
        for number, line in lines:
            try:
                row = _parse_object(_check_length(line))
                if column not in row:
                    raise ValueError(f"there is no '{column}'")
                check_text(row[column], column)
                unknown = next((name for name in row if name not in types), None)
                if unknown is not None:
                    raise ValueError(f"the field '{unknown}' is in none of the first {SAMPLE_ROWS} lines")
                rows.append({name: convert_value(type_, row.get(name), name) for name, type_ in types.items()})
            except ValueError as error:
                rejected.append(_reject(piece, number, line, error))
        yield Batch(pa.Table.from_pylist(rows, schema), [row[column] for row in rows], rejected)


def _count_file_lines(file: CorpusFile, first_rows: range) -> CountedFile:
    """Count the lines of a file whose lines `first_rows` begin a block; it is not split if there are none."""
    rows = position = carriage_returns = 0
    start, digest = (0, 0), xxh3_128()
    starts: dict[int, tuple[int, str]] = {}
    last_byte = b"\n"
    with translate_errors(file.address), open_lines(file.address) as stream:
        while chunk := stream.read(_CHUNK):
            line_ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
            view, hashed = memoryview(chunk), 0
            # Row n begins after the n-th line end.
            for n in _between(first_rows, rows, rows + len(line_ends)):
                end = int(line_ends[n - rows - 1]) + 1
                digest.update(view[hashed:end])
                starts[start[0]] = start[1], digest.hexdigest()
                start, digest, hashed = (n, position + end), xxh3_128(), end
            digest.update(view[hashed:])
            rows += len(line_ends)
            position += len(chunk)
            last_byte = chunk[-1:]
            carriage_returns += 0 if rows else chunk.count(b"\r")
    if not rows and carriage_returns > (last_byte == b"\r"):
        raise cr_error(file.address)
    starts[start[0]] = start[1], digest.hexdigest()
    return CountedFile(file, rows + (last_byte != b"\n"), starts=starts, is_splittable=bool(first_rows))


def _between(numbers: range, above: int, last: int) -> range:
    """Return the numbers of a range that are greater than `above` and at most `last`."""
    first = numbers.start if above < numbers.start else above + 1 + (numbers.start - above - 1) % numbers.step
    return range(first, min(last + 1, numbers.stop), numbers.step)


def _read_batches(piece: Piece) -> Iterator[list[Line]]:
    """Yield the lines of a piece without their line ends, in batches of bounded rows and bytes.

    Raises:
        KonerError: If their bytes are not those that were planned.
    """
    digest = xxh3_128()
    with open_lines(piece.address) as stream:
        if piece.offset:
            stream.seek(piece.offset)
        batch: list[Line] = []
        size = 0
        for number in range(piece.first + 1, piece.first + piece.rows + 1):
            line = rest = stream.readline(_MAX_LINE_LENGTH + 1)
            digest.update(line)
            while len(rest) > _MAX_LINE_LENGTH and not rest.endswith(b"\n"):
                rest = stream.readline(_MAX_LINE_LENGTH + 1)
                digest.update(rest)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            batch.append((number, _strip_bom(number, line)))
            size += len(line)
            if len(batch) == BATCH_ROWS or size > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
    if digest.hexdigest() != piece.digest:
        raise changed_error(piece.address)


def _sample_rows(files: Sequence[CorpusFile]) -> Iterator[dict[str, Any] | ValueError]:
    """Yield the objects of the first `SAMPLE_ROWS` lines; the error of a line that is no valid object."""
    remaining = SAMPLE_ROWS
    for file in files:
        for number, line in _read_first_lines(file, remaining):
            remaining -= 1
            try:
                yield _parse_object(_check_length(_strip_bom(number, line)))
            except ValueError as error:
                yield error
        if remaining <= 0:
            return


def _read_first_lines(file: CorpusFile, count: int) -> Iterator[Line]:
    with translate_errors(file.address), open_lines(file.address) as stream:
        for number in range(1, count + 1):
            line = stream.readline(_MAX_LINE_LENGTH + 1)
            if not line:
                return
            if number == 1 and len(line) <= _MAX_LINE_LENGTH and not line.endswith(b"\n"):
                check_line_ends(line, file.address)
            yield number, line


def _strip_bom(number: int, line: bytes) -> bytes:
    return line.removeprefix(BOM_UTF8) if number == 1 else line


def _check_length(line: bytes) -> bytes:
    if len(line) > _MAX_LINE_LENGTH:
        raise ValueError(f"the line has more than {_MAX_LINE_LENGTH} bytes")
    return line


def _parse_object(line: bytes) -> dict[str, Any]:
    if not line.strip():
        raise ValueError("the line is empty")
    decode_utf8(line)
    try:
        row = jiter.from_json(line, catch_duplicate_keys=True, allow_inf_nan=False, float_mode="lossless-float")
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _reject(piece: Piece, number: int, line: bytes, error: ValueError) -> RejectedRow:
    return RejectedRow(piece.address, number, str(error), line.decode("utf-8", "backslashreplace"))
