"""Texts from files and standard input, one a line, read in chunks as they come."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Protocol

from koner.errors import KonerError

# Some 5,000 syllables of Hangul: about one batch of the model, so that the first results come soon.
_CHUNK_BYTES = 1 << 14


class Reader(Protocol):
    """A binary stream that gives what has come without waiting for more: `io.BufferedReader`, `io.BytesIO`."""

    def read1(self, size: int, /) -> bytes: ...


def line_chunks(stream: Reader, name: str) -> Iterator[list[str]]:
    """Reads UTF-8 lines in chunks of about 16 KiB, or of as many whole lines as have come, which a pipe may be slow at.

    Lines end with LF or CR LF, given without it; a byte order mark at the start is no text. An empty line is an empty
    text. Raises `KonerError` that names the line of a byte that is not UTF-8, once the lines before it are given.
    """
    number = 0
    for lines in _whole_lines(stream):
        texts: list[str] = []
        for line in lines:
            number += 1
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            try:
                texts.append(line.removesuffix(b"\r").decode("utf-8"))
            except UnicodeDecodeError as error:
                fault = KonerError(f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8")
                yield texts
                raise fault from None
        yield texts


def _whole_lines(stream: Reader) -> Iterator[list[bytes]]:
    """Cuts a stream at LF into runs of whole lines; what follows the last LF is a line where it is not empty."""
    begun: list[bytes] = []
    while block := stream.read1(_CHUNK_BYTES):
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            yield b"".join([*begun, head]).split(b"\n")
            begun = []
        begun.append(tail)
    last = b"".join(begun)
    if last:
        yield [last]
