"""Reading of compressed files, each stream of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import IO, Any

_CHUNK = 1 << 18  # bytes


def is_compressed(address: str) -> bool:
    """Return whether the extension says that a file is compressed as a whole, so that it can't be split."""
    return extension(address) in COMPRESSIONS


def extension(path: str) -> str:
    """Return the extension of a path in lower case, with its point."""
    return PurePosixPath(path).suffix.lower()


def decompress(file: IO[bytes], address: str) -> IO[bytes] | io.RawIOBase | gzip.GzipFile:
    """Return the decompressed content of a file, or the file itself if its extension names no compression."""
    open_ = COMPRESSIONS.get(extension(address))
    return open_(file) if open_ else file


class _Streams(io.RawIOBase):
    """The content of the streams of a compressed file.

    `bz2.open` and `lzma.open` take a damaged stream after the first one for the end of the file.
    """

    def __init__(self, file: IO[bytes], new_decompressor: Callable[[], Any]) -> None:
        self._file = file
        self._new_decompressor = new_decompressor
        self._decompressor = new_decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as possible, and return the number of bytes; 0 at the end.

        Raises:
            EOFError: If the file ends within a stream.
            OSError: If the file is damaged; also `lzma.LZMAError`.
        """
        while True:
            if self._decompressor.eof:
                # xz allows zeros after a stream.
                data = (self._decompressor.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")
                if not data and not (data := self._file.read(_CHUNK).lstrip(b"\0")):
                    return 0
                self._decompressor = self._new_decompressor()
            else:
                data = self._file.read(_CHUNK) if self._decompressor.needs_input else b""
                if not data and self._decompressor.needs_input:
                    raise EOFError("it ends within a compressed stream")
            if content := self._decompressor.decompress(data, len(buffer)):
                buffer[: len(content)] = content
                return len(content)


# The formats of Python's library. fsspec would read the first member of a zip archive, and the first frame of zstd.
COMPRESSIONS: dict[str, Callable[[IO[bytes]], io.RawIOBase | gzip.GzipFile]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": lambda file: _Streams(file, bz2.BZ2Decompressor),
    ".xz": lambda file: _Streams(file, lzma.LZMADecompressor),
    ".lzma": lambda file: _Streams(file, lzma.LZMADecompressor),
}
