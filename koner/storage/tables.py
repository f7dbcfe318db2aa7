"""CSV tables of figures, as `dvc plots` reads them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koner.errors import KonerError
from koner.storage.outputs import atomic_file

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_LINE_ENDS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


def escape_formula(value: Any) -> Any:
    """Return a value of a CSV table so that a spreadsheet shows it: a text that would be a formula gets an apostrophe.

    Source: https://owasp.org/www-community/attacks/CSV_Injection.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def escape_markdown(text: str) -> str:
    """Return a text for a cell of a Markdown table, in which nothing of it is markup, HTML, a link or a line end."""
    references = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINE_ENDS.sub(" ", _MARKDOWN.sub(r"\\\1", references))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV.

    Args:
        path: The file to write; its folder is created.
        rows: The rows, one mapping of column to value each.
        columns: The header; needed if `rows` may be empty.
    """
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table of numbers that `write_table` wrote.

    Raises:
        KonerError: If the file does not exist.
    """
    if not path.is_file():
        raise KonerError(f"{path} is missing; run `dvc repro`")
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: int(v) if v.isdigit() else float(v) for k, v in row.items()} for row in csv.DictReader(file)]
