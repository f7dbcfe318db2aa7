"""Files at any address that fsspec knows: those of a corpus, and those that are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Literal, get_args
from uuid import uuid4

from fsspec.core import has_magic, url_to_fs
from fsspec.utils import infer_compression

from koner.errors import KonerError

InputFormat = Literal["parquet", "jsonl", "text"]
INPUT_FORMATS: tuple[InputFormat, ...] = get_args(InputFormat)
_FORMAT_OF: dict[str, InputFormat] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text"}
_DRAFTS = "_run/drafts"
# They have no folders, and to make one would make a mistyped bucket too.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file of a corpus: its address, and what changes with what it holds (size, and date or checksum)."""

    address: str
    version: str


@contextmanager
def told(address: str, doing: str = "read") -> Iterator[None]:
    """Turns whatever a file system raises into a `KonerError` that names the address."""
    try:
        yield
    except KonerError:
        raise
    # Each file system has exceptions of its own: of botocore, of aiohttp, of pyarrow.
    except Exception as error:
        what = str(error).strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, FileNotFoundError):
            what = "there is no such " + ("file or folder" if doing == "read" else "folder or bucket")
        raise KonerError(f"{address} can't be {'read' if doing == 'read' else 'written'}: {what}") from None


def absolute(address: str) -> str:
    """An address as every process and machine reads it: with its protocol, a local path from the root."""
    with told(address):
        fs, path = url_to_fs(address)
        return str(fs.unstrip_protocol(path))


def corpus_files(address: str, format_: InputFormat | None) -> tuple[InputFormat, list[CorpusFile]]:
    """Finds the files of an input, in the order of their names, and their format.

    The input is a file, a pattern (`*.jsonl.gz`), or a folder, of which it takes the files, those of its folders too,
    whose ending is of the format; without one given, endings tell it. Names that begin with `_` or `.` are passed over
    in a folder, as Spark and pyarrow do. Raises `KonerError` where there is none, or files of several formats.
    """
    with told(address):
        fs, path = url_to_fs(address)
        is_folder = False
        if fs.isfile(path):
            found = {path: fs.info(path)}
        elif has_magic(path):
            found = {p: info for p, info in fs.glob(path, detail=True).items() if info["type"] == "file"}
        else:
            is_folder = True
            found = {p: info for p, info in fs.find(path, detail=True).items() if not _hidden(p, path)}
            if not found and not fs.exists(path):
                raise FileNotFoundError
        formats = {p: _format_of(p) for p in found}
        if is_folder:
            found = {p: info for p, info in found.items() if formats[p] and format_ in (None, formats[p])}
        known = {formats[p] for p in found}
        files = [CorpusFile(str(fs.unstrip_protocol(p)), _version(found[p])) for p in sorted(found)]
    if not files:
        raise KonerError(f"{address} holds no {format_ or 'Parquet, JSON lines or text'} file")
    if format_ is None and len(known) > 1:
        raise KonerError(f"{address} holds files of several formats; choose one by --input-format")
    format_ = format_ or known.pop()
    if format_ is None:
        raise KonerError(f"{address}: its ending tells no format; give --input-format, {' or '.join(INPUT_FORMATS)}")
    if format_ == "parquet" and (packed := next((f.address for f in files if is_compressed(f.address)), None)):
        raise KonerError(f"{packed} is a compressed Parquet file, which can't be read in parts; decompress it")
    return format_, files


def fingerprint(files: list[CorpusFile]) -> str:
    """A hash that changes with the files of a corpus and what they hold."""
    listed = json.dumps([(file.address, file.version) for file in files])
    return hashlib.sha256(listed.encode()).hexdigest()[:32]


def is_compressed(address: str) -> bool:
    """Tells by its ending whether a file is compressed as a whole, and so can't be read from its middle."""
    return infer_compression(address) is not None


@contextmanager
def opened(address: str) -> Iterator[IO[bytes]]:
    """Opens a file to read its bytes, decompressed where its ending says so."""
    fs, path = url_to_fs(address)
    with fs.open(path, "rb", compression="infer") as file:
        yield file


class Folder:
    """The folder that a run writes, at any address. A file of it is there whole or not at all.

    What is being written lies in `_run/drafts` and takes its name at the end: on an object store by a copy.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with told(address, "write"):
            self._fs, self._root = url_to_fs(address)
        protocols = self._fs.protocol
        self._has_buckets = bool(_OBJECT_STORES & ({protocols} if isinstance(protocols, str) else set(protocols)))

    def names(self, within: str = "") -> set[str]:
        """The names of what lies in the folder, or in one within it; none where it isn't there."""
        path = f"{self._root}/{within}".rstrip("/")
        with told(self.address):
            self._fs.invalidate_cache()
            try:
                return {PurePosixPath(found).name for found in self._fs.ls(path, detail=False)} - {""}
            except FileNotFoundError:
                return set()

    def has(self, name: str) -> bool:
        """Tells whether a file is there."""
        with told(self.address):
            return bool(self._fs.exists(f"{self._root}/{name}"))

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Opens a file to read."""
        with told(f"{self.address}/{name}"), self._fs.open(f"{self._root}/{name}", "rb") as file:
            yield file

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Gives a file to write that takes its name at the end, or vanishes if an error ends the work."""
        target, draft = f"{self._root}/{name}", f"{self._root}/{_DRAFTS}/{uuid4().hex}"
        address = f"{self.address}/{name}"
        with told(address, "write"):
            if not self._has_buckets:
                self._fs.makedirs(draft.rpartition("/")[0], exist_ok=True)
                self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            file = self._fs.open(draft, "wb")
        try:
            yield file
            with told(address, "write"):
                file.close()
                self._fs.mv(draft, target)
        except BaseException:
            with contextlib.suppress(Exception):
                file.close()
            with contextlib.suppress(Exception):
                self._fs.rm(draft)
            raise

    def remove_drafts(self) -> None:
        """Removes what killed processes left half written."""
        with told(self.address, "write"), contextlib.suppress(FileNotFoundError):
            self._fs.rm(f"{self._root}/{_DRAFTS}", recursive=True)


def _hidden(path: str, root: str) -> bool:
    return any(part[0] in "._" for part in PurePosixPath(path.removeprefix(root).lstrip("/")).parts)


def _format_of(path: str) -> InputFormat | None:
    name = PurePosixPath(path.lower())
    return _FORMAT_OF.get((name.with_suffix("") if is_compressed(path.lower()) else name).suffix)


def _version(info: dict[str, Any]) -> str:
    # By whichever name a file system has it.
    changed = next((info[key] for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified") if info.get(key)), None)
    return f"{info.get('size')} {changed}"
