"""Rows of a corpus as they are read: valid rows as Arrow tables, malformed rows rejected with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# The number of rows that are read and tagged at once. More would save little padding.
BATCH_ROWS = 1024
MAX_TEXT_LENGTH = 1_000_000  # code points
REJECTED_SCHEMA = pa.schema(
    [("file", pa.string()), ("number", pa.int64()), ("reason", pa.string()), ("row", pa.string())]
)
_MAX_ROW_LENGTH = 100_000  # characters of a rejected row that are stored


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A malformed row: its file, its number in the file (from 1), the reason, and the row as text."""

    file: str
    number: int
    reason: str
    row: str

    def to_row(self) -> dict[str, Any]:
        """Return a row of `REJECTED_SCHEMA`; the text of a very long row is truncated."""
        return {"file": self.file, "number": self.number, "reason": self.reason, "row": self.row[:_MAX_ROW_LENGTH]}


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows.

    Attributes:
        table: The valid rows, with the columns of the input.
        texts: The texts of the valid rows.
        rejected: The malformed rows.
    """

    table: pa.Table
    texts: list[str]
    rejected: list[RejectedRow]


def check_text(value: Any, column: str) -> str:
    """Return the text of a row.

    Raises:
        ValueError: If the value is null, not a string or too long.
    """
    if value is None:
        raise ValueError(f"'{column}' is null")
    if not isinstance(value, str):
        raise ValueError(f"'{column}' is not a string")
    if len(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"'{column}' has {len(value)} characters, more than {MAX_TEXT_LENGTH}")
    return value


def decode_utf8(line: bytes) -> str:
    """Decode UTF-8.

    Raises:
        ValueError: If the bytes are not UTF-8; the message names the position of the first invalid byte, from 1.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
