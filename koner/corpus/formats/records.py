"""Files of records: JSON lines, an array in a JSON file, or the rows of a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from koner.corpus.formats.base import PARQUET_SIGNATURE, Head, ReadOptions
from koner.corpus.formats.json_files import read_items
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.text_files import read_lines
from koner.errors import KonerError
from koner.storage.outputs import atomic_file
from koner.storage.parquet import read_rows

_ID_KEYS = ("id", "guid")
_TYPE_NAMES = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", type(None): "null"}

# Returns the sentences of a record, given the record, its place and a default id.
Convert = Callable[[Mapping[str, Any], str, str], Iterable[RawSentence]]


def read_records(path: Path, options: ReadOptions, convert: Convert) -> Iterator[RawSentence]:
    """Yield the sentences of a file of records; a record that cannot be converted becomes a sentence with a fault.

    Args:
        path: The file.
        options: How to read it.
        convert: Returns the sentences of a record; raises ValueError if it is not as it should be.
    """
    for number, (where, record) in enumerate(_places(path, options.encoding), start=1):
        default_id = f"{path.stem}-{number}"
        try:
            if isinstance(record, ValueError):
                raise record
            if not isinstance(record, Mapping):
                raise ValueError(f"it is {describe_type(record)}, not an object")
            yield from convert(record, where, default_id)
        except ValueError as fault:
            yield RawSentence(where, record_id(record, default_id), fault=str(fault))


def record_id(record: Any, default: str) -> str:
    """Return the id of a record as text."""
    if isinstance(record, Mapping):
        for key in _ID_KEYS:
            if record.get(key) is not None:
                return str(record[key])
    return default


def record_part(record: Mapping[str, Any]) -> str | None:
    """Return the part that a record names in its field `split`."""
    return None if record.get("split") is None else str(record["split"])


def names_parts(head: Head) -> bool:
    """Return whether the first record of a file names its part."""
    record = head.record
    return "split" in head.columns or (
        isinstance(record, dict)
        and any(isinstance(fields, dict) and fields.get("split") is not None for fields in (record, record.get("data")))
    )


def require_list(value: Any, name: str) -> list[Any]:
    """Return a value that must be a list.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, list):
        raise ValueError(f"'{name}' is {describe_type(value)}, not a list")
    return value


def describe_type(value: Any) -> str:
    """Return the kind of a JSON value for a message."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def write_json_lines(path: Path, sentences: Iterable[Sentence], convert: Callable[[Sentence], dict[str, Any]]) -> None:
    """Write a line of JSON for each sentence."""
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(convert(sentence), ensure_ascii=False) + "\n" for sentence in sentences)


def write_json_array(path: Path, items: Iterable[Any], before: str = "[\n", after: str = "\n]\n") -> None:
    """Write a JSON array item by item; `before` and `after` are the JSON around the items."""
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        file.write(before)
        for number, item in enumerate(items):
            file.write((",\n" if number else "") + json.dumps(item, ensure_ascii=False))
        file.write(after)


def _places(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    """Yield records with their places; a line that is not JSON becomes a ValueError."""
    if not path.is_file():
        raise KonerError(f"{path} is missing")
    with path.open("rb") as file:
        start = file.read(1 << 12)
    if start.startswith(PARQUET_SIGNATURE):
        yield from ((f"{path.name}, row {i}", row) for i, row in enumerate(_parquet_rows(path)))
    elif start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from ((f"{path.name}, item {i}", item) for i, item in enumerate(read_items(path, encoding), start=1))
    else:
        for number, line in enumerate(read_lines(path, encoding), start=1):
            if line.strip():
                yield f"{path.name}:{number}", _parse(line)


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return ValueError(f"the line is not valid JSON: {error}")


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    try:
        yield from read_rows(path)
    except pa.ArrowException as error:
        raise KonerError(f"{path} can't be read as Parquet: {error}") from None
