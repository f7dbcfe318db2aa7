"""Streams of raw text: text files, gzip, Parquet, folders of these, and hub datasets."""

from __future__ import annotations

import gzip
import os
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.errors import KonerError, first_line
from koner.storage.hub import check_reachable, is_hub_id
from koner.storage.paths import local_path
from koner.text.signatures import SIGNATURE_BYTES, check_signature

_SUFFIXES = (".txt", ".txt.gz", ".parquet")
_ROWS = 1_000


def read_texts(source: str, column: str = "text", revision: str | None = None) -> Iterator[str]:
    """Yield the texts of a source, stripped and without blank ones.

    Args:
        source: A `.txt` or `.txt.gz` file (one text per line, UTF-8), a Parquet file, a folder of such files (read in
            the order of their names), or the id of a hub dataset, whose part `train` is read.
        column: The column of texts in Parquet files and hub datasets.
        revision: The revision of a hub dataset; None for the newest.

    Raises:
        KonerError: If the source can't be read; it names the file, and the line or column.
    """
    path = local_path(source)
    if os.path.isdir(path):
        files = sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES))
        if not files:
            raise KonerError(f"texts: {source} contains no {', '.join(_SUFFIXES)} file")
        streams = [_read_file(file, column) for file in files]
    elif os.path.isfile(path):
        if not path.name.endswith(_SUFFIXES):
            raise KonerError(f"texts: {source} is not a {', '.join(_SUFFIXES)} file")
        streams = [_read_file(path, column)]
    elif is_hub_id(source) and not path.suffix:
        streams = [_read_hub(source, column, revision)]
    else:
        raise KonerError(
            f"texts: there is no file or folder {source}, and it does not have the form of a hub dataset's id"
        )
    for stream in streams:
        for text in stream:
            if text := text.strip():
                yield text


def _read_file(path: Path, column: str) -> Iterator[str]:
    if not path.is_file():
        raise KonerError(f"texts: {path} is no regular file")
    return _read_parquet(path, column) if path.suffix == ".parquet" else _read_lines(path)


def _read_lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            check_signature(file.peek(SIGNATURE_BYTES)[:SIGNATURE_BYTES], str(path))
            for line in file:
                number += 1
                # A file may begin with a byte order mark, and have line ends of CR alone.
                yield from line.removeprefix(BOM_UTF8 if number == 1 else b"").decode("utf-8").split("\r")
    except UnicodeDecodeError:
        raise KonerError(f"{path}:{number}: the line is not UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise KonerError(f"{path}: can't be read after line {number}: {first_line(error)}") from None


def _read_parquet(path: Path, column: str) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names.count(column) > 1:
                raise KonerError(f"column: {path} has {names.count(column)} columns '{column}'; rename them")
            if column not in names:
                raise KonerError(f"column: {path} has no column '{column}'; its columns are {', '.join(names)}")
            if file.schema_arrow.field(column).type not in (pa.string(), pa.large_string()):
                raise KonerError(f"column: {path}: the column '{column}' does not contain text")
            rows = 0
            for batch in file.iter_batches(_ROWS, columns=[column]):
                rows += batch.num_rows
                yield from (text for text in batch.column(0).to_pylist() if text)
            if rows < file.metadata.num_rows:
                raise KonerError(
                    f"{path} is damaged: it has {rows} of the {file.metadata.num_rows} rows that it counts"
                )
    except UnicodeDecodeError:
        raise KonerError(f"column: {path}: the column '{column}' has text that is not UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        raise KonerError(f"{path} can't be read as Parquet: {first_line(error)}") from None


def _read_hub(source: str, column: str, revision: str | None) -> Iterator[str]:
    try:
        check_reachable(source, revision, "dataset")
    except KonerError as error:
        raise KonerError(f"texts: {str(error).partition(': ')[2]}") from None
    import datasets

    try:
        rows: Any = datasets.load_dataset(source, split="train", revision=revision, streaming=True)
        for row in rows:
            if not isinstance(row.get(column, 0), str | None):
                raise KonerError(f"column: {source} has no text column '{column}'; its columns are {', '.join(row)}")
            if row[column]:
                yield row[column]
    except KonerError:
        raise
    except Exception as error:
        raise KonerError(f"texts: {source} can't be read as a dataset: {first_line(error)}") from None
