"""Rows of a corpus as they come from a file: the sound ones as Arrow tables, the malformed put aside with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# Rows read, and tagged, at once. More save little padding.
BATCH_ROWS = 1024
LONGEST_TEXT = 1_000_000  # code points
REJECTED_SCHEMA = pa.schema(
    [("file", pa.string()), ("number", pa.int64()), ("reason", pa.string()), ("row", pa.string())]
)
_SHOWN = 100_000  # characters of a malformed row


@dataclass(frozen=True, slots=True)
class Rejected:
    """A malformed row: its file, its number there counted from 1, what is wrong, and the row as text."""

    file: str
    number: int
    reason: str
    row: str

    def to_row(self) -> dict[str, Any]:
        """Lays it out as a row of `REJECTED_SCHEMA`, a very long one cut."""
        return {"file": self.file, "number": self.number, "reason": self.reason, "row": self.row[:_SHOWN]}


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows: the sound ones with the input's columns, their texts, and the malformed ones."""

    table: pa.Table
    texts: list[str]
    rejected: list[Rejected]


def checked_text(value: Any, column: str) -> str:
    """The text of a row; raises ValueError that says what is wrong with it."""
    if value is None:
        raise ValueError(f"'{column}' is null")
    if not isinstance(value, str):
        raise ValueError(f"'{column}' is no string")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"'{column}' has {len(value)} characters, more than {LONGEST_TEXT}")
    return value


def decoded(line: bytes) -> str:
    """UTF-8 bytes as text; raises ValueError that names the first wrong byte."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
