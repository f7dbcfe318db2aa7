"""Rows of text and JSON lines: UTF-8, a row a line."""

from __future__ import annotations

import io
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from typing import Any, cast

import jiter
import numpy as np
import pyarrow as pa

from koner.bulk.blocks import Counted, Piece
from koner.bulk.files import CorpusFile, is_compressed, opened, told
from koner.bulk.json_types import kind_of, merged, settled, types_of, value_in
from koner.bulk.rows import BATCH_ROWS, Batch, Rejected, checked_text, decoded
from koner.errors import KonerError

_CHUNK = 1 << 20  # bytes
_BATCH_BYTES = 1 << 22
_LONGEST_LINE = 1 << 24  # bytes
# What tells the columns of JSON lines and their types.
SAMPLE_ROWS = 10_000

Line = tuple[int, bytes]  # its number, counted from 1, and what it holds, one byte too many of a line too long


def survey(files: Sequence[CorpusFile], block_rows: int) -> Iterator[Counted]:
    """Counts the lines of files one after another, and notes where those begin that begin a block."""
    room = block_rows
    for file in files:
        whole = is_compressed(file.address)
        counted = _counted(file, room, block_rows, whole)
        yield counted
        room -= counted.rows
        if room <= 0:
            room = block_rows if whole else block_rows - -room % block_rows


def text_schema(column: str) -> pa.Schema:
    """The one column of a text."""
    return pa.schema([(column, pa.string())])


def json_schema(files: Sequence[CorpusFile], column: str) -> pa.Schema:
    """The columns of JSON lines, in the order of their first appearance among the first 10,000 lines.

    Raises `KonerError` where none of these lines is an object that has the column.
    """
    kinds: dict[str, Any] = {}
    for row in _sampled(files):
        for name, value in row.items():
            kinds[name] = merged(kinds.get(name), kind_of(value))
    if column not in kinds:
        has = f"they have {', '.join(kinds)} (choose by --column)" if kinds else "they hold no object"
        raise KonerError(f"of the input's first {SAMPLE_ROWS} lines none has a field '{column}'; {has}")
    kinds[column] = "string"
    return settled(kinds)


def read_text(piece: Piece, schema: pa.Schema, column: str) -> Iterator[Batch]:
    """Reads a piece of a text in batches; a row is malformed that is not UTF-8, or too long."""
    for lines in _batches(piece):
        texts: list[str] = []
        rejected: list[Rejected] = []
        for number, line in lines:
            try:
                texts.append(checked_text(decoded(_fitting(line)), column))
            except ValueError as fault:
                rejected.append(_rejected(piece, number, line, fault))
        yield Batch(pa.table({column: texts}, schema), texts, rejected)


def read_json(piece: Piece, schema: pa.Schema, column: str) -> Iterator[Batch]:
    """Reads a piece of JSON lines in batches.

    A row is malformed that is no JSON object, or names a field twice, or has a field that is no column, or a value
    that isn't of its column's type, or no text.
    """
    kinds = types_of(schema)
    for lines in _batches(piece):
        rows: list[dict[str, Any]] = []
        rejected: list[Rejected] = []
        for number, line in lines:
            try:
                row = _object(_fitting(line))
                if column not in row:
                    raise ValueError(f"there is no '{column}'")
                checked_text(row[column], column)
                unknown = next((name for name in row if name not in kinds), None)
                if unknown is not None:
                    raise ValueError(f"'{unknown}' is a field of none of the first {SAMPLE_ROWS} lines")
                rows.append({name: value_in(kind, row.get(name), name) for name, kind in kinds.items()})
            except ValueError as fault:
                rejected.append(_rejected(piece, number, line, fault))
        yield Batch(pa.Table.from_pylist(rows, schema), [row[column] for row in rows], rejected)


def _counted(file: CorpusFile, first_cut: int, block_rows: int, whole: bool) -> Counted:
    rows = position = 0
    cuts: dict[int, int] = {}
    last = b"\n"
    with told(file.address), opened(file.address) as stream:
        while chunk := stream.read(_CHUNK):
            ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
            # Row n begins behind the n-th end of a line.
            for n in range(_next_cut(rows, first_cut, block_rows), rows + len(ends) + 1, block_rows):
                cuts[n] = position + int(ends[n - rows - 1]) + 1
            rows += len(ends)
            position += len(chunk)
            last = chunk[-1:]
    return Counted(file.address, rows + (last != b"\n"), None if whole else cuts, whole)


def _next_cut(rows: int, first: int, step: int) -> int:
    """The least of `first`, `first + step`, ... that is more than `rows`."""
    return first if rows < first else first + ((rows - first) // step + 1) * step


def _batches(piece: Piece) -> Iterator[list[Line]]:
    """The lines of a piece, without their ends, in batches of bounded rows and bytes."""
    with opened(piece.address) as file:
        if piece.offset:
            file.seek(piece.offset)
        stream = io.BufferedReader(cast("io.RawIOBase", file), _CHUNK)
        batch: list[Line] = []
        size = 0
        for number in range(piece.first + 1, piece.first + piece.rows + 1):
            line = stream.readline(_LONGEST_LINE + 1)
            if not line:
                raise KonerError(f"{piece.address} has fewer lines than it had; it has changed while it was read")
            rest = line
            while len(rest) > _LONGEST_LINE and not rest.endswith(b"\n"):
                rest = stream.readline(_LONGEST_LINE + 1)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            batch.append((number, line.removeprefix(BOM_UTF8) if number == 1 else line))
            size += len(line)
            if len(batch) == BATCH_ROWS or size > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _fitting(line: bytes) -> bytes:
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"the line has more than {_LONGEST_LINE} bytes")
    return line


def _object(line: bytes) -> dict[str, Any]:
    if not line.strip():
        raise ValueError("the line is empty")
    decoded(line)
    try:
        row = jiter.from_json(line, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _sampled(files: Sequence[CorpusFile]) -> Iterator[dict[str, Any]]:
    left = SAMPLE_ROWS
    for file in files:
        counted = _first_lines(file, left)
        for _, line in counted:
            left -= 1
            try:
                yield _object(_fitting(line))
            except ValueError:
                continue
        if left <= 0:
            return


def _first_lines(file: CorpusFile, most: int) -> Iterator[Line]:
    with told(file.address), opened(file.address) as stream:
        lines = io.BufferedReader(cast("io.RawIOBase", stream), _CHUNK)
        for number in range(1, most + 1):
            line = lines.readline(_LONGEST_LINE + 1)
            if not line:
                return
            yield number, line.removeprefix(BOM_UTF8) if number == 1 else line


def _rejected(piece: Piece, number: int, line: bytes, fault: ValueError) -> Rejected:
    return Rejected(piece.address, number, str(fault), line.decode("utf-8", "backslashreplace"))
