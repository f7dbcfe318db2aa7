"""The input files of a corpus, at any address that fsspec supports."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, cast

from fsspec import AbstractFileSystem
from fsspec.core import has_magic

from koner.bulk.addresses import check_utf8, resolve, translate_errors
from koner.bulk.choices import INPUT_FORMATS, InputFormat
from koner.bulk.compression import COMPRESSIONS, decompress, is_compressed
from koner.errors import KonerError
from koner.text.signatures import SIGNATURE_BYTES, check_signature

_EXTENSIONS: dict[str, InputFormat] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text"}
_UNREADABLE_EXTENSIONS = {
    *(".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"),
    *(".zst", ".lz4", ".sz", ".snappy", ".br", ".lz", ".lzo", ".z"),
}
# Filesystems name the checksum or the modification time of a file differently.
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified")
_FINGERPRINT_LENGTH = 32  # hexadecimal digits
_BUFFER = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """An input file: its address, and a version that changes with its content (size, and checksum or date)."""

    address: str
    version: str


def find_corpus_files(address: str, format_: InputFormat | None) -> tuple[InputFormat, list[CorpusFile]]:
    """Find the files of a corpus.

    Args:
        address: A file, a folder or a glob pattern (`*.jsonl.gz`); a name that exists is no pattern. In a folder and
            its subfolders, files are selected by their extensions, and names that begin with `_` or `.` are ignored, as
            Spark and pyarrow do.
        format_: The format of the files; None to infer it from their extensions.

    Returns:
        The format, and the files in the order of their paths.

    Raises:
        KonerError: If there is no file, the format is unknown, the files have several formats, one is no regular file
            or an archive, or a Parquet file is compressed as a whole.
    """
    with translate_errors(address):
        fs, root = resolve(address)
        details = _list_files(fs, root, format_)
        formats = {_infer_format(path) for path in details}
        files = [CorpusFile(str(fs.unstrip_protocol(path)), _version(details[path])) for path in sorted(details)]
    if not files:
        raise KonerError(f"{address} holds no {format_ or 'Parquet, JSON lines or text'} file")
    for file in files:
        check_utf8(file.address)
    if format_ is None:  # otherwise the content decides
        _check_extensions(files)
    if format_ is None and len(formats) > 1:
        raise KonerError(f"{address} holds files of several formats; choose one by --input-format")
    format_ = format_ or formats.pop()
    if format_ is None:
        raise KonerError(
            f"{address}: the extension does not name the format; give --input-format {', '.join(INPUT_FORMATS)}"
        )
    if format_ == "parquet":
        for file in files:
            if is_compressed(file.address):
                raise KonerError(
                    f"{file.address} is a compressed Parquet file, which can't be read in parts; decompress it"
                )
    return format_, files


def fingerprint(files: Sequence[CorpusFile]) -> str:
    """Return a hash that changes with the list of files or with the version of any of them."""
    versions = json.dumps([(file.address, file.version) for file in files])
    return hashlib.sha256(versions.encode()).hexdigest()[:_FINGERPRINT_LENGTH]


def check_version(address: str, version: str) -> None:
    """Check that a file still has the version that it had when the run was planned.

    Raises:
        KonerError: If it has another one, or can't be read.
    """
    with translate_errors(address):
        fs, path = resolve(address)
        fs.invalidate_cache()
        if _version(fs.info(path)) != version:
            raise changed_error(address)


def changed_error(address: str) -> KonerError:
    """Return the error for a file whose content is not the one that was planned."""
    return KonerError(f"{address} has changed since the run was planned; give a new folder to tag it as it is now")


@contextmanager
def open_file(address: str) -> Iterator[IO[bytes]]:
    """Open a file for reading."""
    fs, path = resolve(address)
    with fs.open(path, "rb") as file:
        yield file


@contextmanager
def open_lines(address: str) -> Iterator[io.BufferedReader[Any]]:
    """Open a file of lines for reading, and decompress it if its extension says that it is compressed.

    Raises:
        KonerError: If the file is an archive or holds something else than UTF-8 text.
    """
    with open_file(address) as file:
        stream: io.BufferedReader[Any] = io.BufferedReader(cast("io.RawIOBase", decompress(file, address)), _BUFFER)
        check_signature(stream.peek(SIGNATURE_BYTES)[:SIGNATURE_BYTES], address)
        yield stream


def _list_files(fs: AbstractFileSystem, root: str, format_: InputFormat | None) -> dict[str, dict[str, Any]]:
    """Return the details of a file, of a folder's files of a known format, or of the files that match a pattern."""
    if fs.isfile(root):
        return {root: fs.info(root)}
    if fs.isdir(root):
        found = _follow_links(fs, fs.find(root, detail=True))
        details = {path: info for path, info in found if _is_part(path.removeprefix(root), info, format_)}
    elif fs.exists(root):
        details = {root: fs.info(root)}
    elif has_magic(root):
        found = _follow_links(fs, fs.glob(_escape_folders(fs, root), detail=True))
        details = {path: info for path, info in found if info["type"] != "directory"}
    else:
        raise FileNotFoundError
    for path, info in details.items():
        if info["type"] == "directory":
            raise KonerError(f"{path} is a link to a folder; give a pattern of the folders to read, such as */*.jsonl")
        if info["type"] != "file":
            raise KonerError(f"{path} is no regular file")
    return details


def _follow_links(fs: AbstractFileSystem, listed: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield listed files with the details of the targets of links, and with details that a listing lacks."""
    for path, info in listed.items():
        with translate_errors(path):
            yield path, fs.info(path) if info.get("islink") or info.get("size") is None else info


def _escape_folders(fs: AbstractFileSystem, pattern: str) -> str:
    """Escape the folders at the start of a pattern that exist by their name, such as `c[1]` in `c[1]/*.txt`."""
    parts = pattern.split("/")
    for i in range(len(parts) - 1, 0, -1):
        if has_magic(head := "/".join(parts[:i])) and fs.isdir(head):
            return "/".join([re.sub(r"([*?[])", r"[\1]", head), *parts[i:]])
    return pattern


def _check_extensions(files: Sequence[CorpusFile]) -> None:
    for file in files:
        if set(_split_extensions(file.address)[1]) & _UNREADABLE_EXTENSIONS:
            raise KonerError(f"{file.address} is an archive or compressed in a way that can't be read; unpack it")


def _is_part(relative_path: str, details: dict[str, Any], format_: InputFormat | None) -> bool:
    """Return whether a file of a folder belongs to the input; a link to a folder does, as it may hold such files."""
    if any(part[0] in "._" for part in PurePosixPath(relative_path.lstrip("/")).parts):
        return False
    found = _infer_format(relative_path)
    return details["type"] == "directory" or (found is not None and format_ in (None, found))


def _infer_format(path: str) -> InputFormat | None:
    return _EXTENSIONS.get(_split_extensions(path)[0])


def _split_extensions(path: str) -> tuple[str, list[str]]:
    """Return the extension of the content, and those of archives and compression that follow it."""
    name = PurePosixPath(path.lower())
    outer: list[str] = []
    while name.suffix in COMPRESSIONS or name.suffix in _UNREADABLE_EXTENSIONS:
        outer.append(name.suffix)
        name = name.with_suffix("")
    return name.suffix, outer


def _version(details: dict[str, Any]) -> str:
    changed = next((details[key] for key in _VERSION_KEYS if details.get(key)), None)
    return f"{details.get('size')} {changed}"
