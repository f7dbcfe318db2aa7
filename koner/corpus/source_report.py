"""What reading a source found and changed: its format, the schemes of its tags, and each change, counted and listed."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from koner.params import IllegalBio, Overlaps
from koner.storage.outputs import atomic_file
from koner.storage.tables import escape_formula

COLUMNS = ("change", "where", "id", "detail")


@dataclass(frozen=True)
class Rules:
    """What to do with annotation that a BIO sequence cannot hold as it is.

    Attributes:
        overlaps: Whether overlapping entities are a fault, or the longer or the shorter ones are kept.
        illegal_bio: Whether a tag that the scheme does not allow is a fault, or begins an entity.
    """

    overlaps: Overlaps = "error"
    illegal_bio: IllegalBio = "error"


class _Writer(Protocol):
    def writerow(self, row: Any, /) -> Any: ...


@dataclass
class SourceReport:
    """The format of a source, the tag schemes of its files, and the changes that were made while it was read.

    Attributes:
        format: The name of the format.
        schemes: The files by their tag scheme.
        counts: The number of changes of each kind.
    """

    format: str | None = None
    schemes: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _writer: _Writer | None = None

    def add(self, change: str, where: str, id_: str, detail: str) -> None:
        """Count a change, and list it if a file for the list is open."""
        self.counts[change] += 1
        if self._writer:
            self._writer.writerow([escape_formula(value) for value in (change, where, id_, detail)])

    def add_scheme(self, file_name: str, scheme: object) -> None:
        """Note the tag scheme of a file."""
        files = self.schemes.setdefault(str(scheme), [])
        if file_name not in files:
            files.append(file_name)

    @contextmanager
    def list_in(self, path: Path) -> Iterator[None]:
        """List the changes that are made within the block in a CSV file."""
        with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            self._writer = csv.writer(file, lineterminator="\n")
            self._writer.writerow(COLUMNS)
            try:
                yield
            finally:
                self._writer = None

    def metrics(self) -> dict[str, Any]:
        """Return the figures for `metrics/prepare.json`."""
        return {
            "source_format": self.format,
            "tag_schemes": {scheme: len(files) for scheme, files in sorted(self.schemes.items())},
            "changes": dict(sorted(self.counts.items())),
        }
