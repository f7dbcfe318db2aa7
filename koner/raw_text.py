"""Raw text to pretrain on, streamed: text files, gzip, Parquet, folders of them, or a hub dataset."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.errors import KonerError
from koner.sources import assert_reachable, first_line, is_hub_id

_SUFFIXES = (".txt", ".txt.gz", ".parquet")
_ROWS = 1_000


def read_texts(source: str, column: str = "text", revision: str | None = None) -> Iterator[str]:
    """Streams the texts of a source, stripped, blank ones left out.

    `source` is a `.txt` or `.txt.gz` file (a text a line, UTF-8), a Parquet file (its string column `column`), a folder
    of such files (in the order of their names), or a hub dataset's id (its `train` part's `column`, at `revision`).
    Raises `KonerError` that names the file, and the line or column, at fault.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES))
        if not files:
            raise KonerError(f"texts: {source} holds no {', '.join(_SUFFIXES)} file")
        streams = [_read_file(file, column) for file in files]
    elif path.is_file():
        if not path.name.endswith(_SUFFIXES):
            raise KonerError(f"texts: {source} is none of {', '.join(_SUFFIXES)}")
        streams = [_read_file(path, column)]
    elif is_hub_id(source) and not path.suffix:
        streams = [_read_hub(source, column, revision)]
    else:
        raise KonerError(f"texts: there is no file or folder {source}, and it is not of the form of a hub dataset's id")
    for stream in streams:
        for text in stream:
            if text := text.strip():
                yield text


def _read_file(path: Path, column: str) -> Iterator[str]:
    return _read_parquet(path, column) if path.suffix == ".parquet" else _read_lines(path)


def _read_lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                number += 1
                yield line.decode("utf-8")
    except UnicodeDecodeError:
        raise KonerError(f"{path}:{number}: not UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise KonerError(f"{path}, after line {number}: can't be read: {first_line(error)}") from None


def _read_parquet(path: Path, column: str) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise KonerError(f"column: {path} has no column '{column}'; it has {', '.join(names)}")
            if file.schema_arrow.field(column).type not in (pa.string(), pa.large_string()):
                raise KonerError(f"column: {path}: the column '{column}' holds no text")
            for batch in file.iter_batches(_ROWS, columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text)
    except (pa.ArrowException, OSError) as error:
        raise KonerError(f"{path} can't be read as Parquet: {first_line(error)}") from None


def _read_hub(source: str, column: str, revision: str | None) -> Iterator[str]:
    try:
        assert_reachable(source, revision, "dataset")
    except KonerError as error:
        raise KonerError(f"texts: {str(error).partition(': ')[2]}") from None
    import datasets

    try:
        rows: Any = datasets.load_dataset(source, split="train", revision=revision, streaming=True)
        for row in rows:
            if not isinstance(row.get(column, 0), str | None):
                raise KonerError(f"column: {source} has no text column '{column}'; it has {', '.join(row)}")
            if row[column]:
                yield row[column]
    except KonerError:
        raise
    except Exception as error:
        raise KonerError(f"texts: {source} can't be read as a dataset: {first_line(error)}") from None
