"""Arrays in JSON files of any size, read item by item."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koner.errors import KonerError, first_line


def read_items(path: Path, encoding: str, prefix: str = "item") -> Iterator[Any]:
    """Yield the items of an array in a JSON file.

    Args:
        path: The file.
        encoding: The encoding of the file.
        prefix: The place of the items, as `ijson` writes it: `item` for an array as the whole of the file.

    Raises:
        KonerError: If the file is not valid JSON, or not in this encoding.
    """
    import ijson

    with path.open("rb") as file:
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        stream = file if encoding == "utf-8" else _Utf8Stream(codecs.getreader(encoding)(file))
        try:
            yield from ijson.items(stream, prefix, use_float=True)
        except ijson.JSONError as error:
            raise KonerError(f"{path} is not valid JSON: {first_line(error)}") from None
        except UnicodeError:
            raise KonerError(f"{path} is not valid {encoding}") from None


@dataclass(frozen=True)
class _Utf8Stream:
    """A stream of text as UTF-8."""

    reader: codecs.StreamReader

    def read(self, size: int) -> bytes:
        """Return about `size` bytes; empty at the end."""
        return self.reader.read(size).encode()


def first_item(path: Path, encoding: str) -> Any:
    """Return the first item of an array, or None if it is empty; raises as `read_items` does."""
    return next(read_items(path, encoding), None)
