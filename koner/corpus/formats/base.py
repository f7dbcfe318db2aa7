"""What all formats share: their description, the beginning of a file that they are recognised by, reading options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from koner.corpus.formats.json_files import first_item
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import SourceReport
from koner.corpus.text_files import read_lines
from koner.errors import KonerError

PARQUET_SIGNATURE = b"PAR1"
_HEAD_BYTES = 1 << 17


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read: the encoding of its text files, and where changes are counted."""

    encoding: str = "utf-8"
    report: SourceReport = field(default_factory=SourceReport)


@dataclass(frozen=True)
class Head:
    """The beginning of a file."""

    path: Path
    encoding: str
    content: bytes

    @classmethod
    def of(cls, path: Path, encoding: str) -> Head:
        """Read the beginning of a file."""
        with path.open("rb") as file:
            return cls(path, encoding, file.read(_HEAD_BYTES))

    @cached_property
    def lines(self) -> Sequence[str]:
        """Return the complete lines that are not blank, without their ends."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        text = self.content.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        if len(self.content) == _HEAD_BYTES and len(lines) > 1:
            lines.pop()
        return [line for line in lines if line.strip()]

    @cached_property
    def record(self) -> Any:
        """Return the first JSON value: that of the first line, or the first item of an array; None if there is none."""
        if not self.lines:
            return None
        if self.lines[0].lstrip().startswith("["):
            try:
                return first_item(self.path, self.encoding)
            except KonerError:
                return None
        if not self.lines[0].lstrip().startswith("{"):
            return None
        try:
            # The first line may be longer than the head.
            return json.loads(next(line for line in read_lines(self.path, self.encoding) if line.strip()))
        except (ValueError, KonerError):
            return None

    @cached_property
    def columns(self) -> Sequence[str]:
        """Return the names of the columns of a Parquet file; none of another file."""
        if not self.content.startswith(PARQUET_SIGNATURE):
            return ()
        import pyarrow.parquet as pq

        names: list[str] = pq.read_schema(self.path).names
        return names

    def has_keys(self, *groups: Iterable[str]) -> bool:
        """Return whether the first record is an object with a key of each group."""
        return isinstance(self.record, dict) and all(any(key in self.record for key in group) for group in groups)


@dataclass(frozen=True)
class Format:
    """A format of annotated corpora.

    Attributes:
        name: Its name in `source_format` and on the command line.
        description: What it looks like, for the help.
        extension: The extension of a file that is written in it.
        matches: Returns whether a file is in this format.
        read: Yields the sentences of a file.
        write: Writes sentences to a file; None if the format is only read.
    """

    name: str
    description: str
    extension: str
    matches: Callable[[Head], bool]
    read: Callable[[Path, ReadOptions], Iterator[RawSentence]]
    write: Callable[[Path, Iterable[Sentence]], None] | None = None
