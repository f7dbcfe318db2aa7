"""Lines of text from files and standard input, read in chunks as they arrive."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Protocol

from koner.errors import KonerError, first_line
from koner.text.signatures import SIGNATURE_BYTES, check_line_ends, check_signature

# About 5,000 Hangul syllables, one batch of the model, so that the first results come soon.
_CHUNK_BYTES = 1 << 14


class Reader(Protocol):
    """A binary stream that returns the available bytes without waiting, such as `io.BufferedReader`."""

    def read1(self, size: int, /) -> bytes:
        """Return at most `size` bytes; empty at the end of the stream."""


def line_chunks(stream: Reader, name: str) -> Iterator[list[str]]:
    """Read UTF-8 lines in chunks of about 16 KiB, or of the complete lines that a slow pipe has delivered.

    Lines end with LF or CR LF, which is removed, and so is a byte order mark at the start. An empty line is an empty
    text.

    Args:
        stream: The stream to read.
        name: The name of the stream in error messages.

    Yields:
        The lines of a chunk.

    Raises:
        KonerError: If the stream can't be read, begins as an archive or another format, or ends its lines with CR only;
            or if a line is not UTF-8, after the lines before it have been yielded.
    """
    number = 0
    for lines in _complete_lines(stream, name):
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


def _complete_lines(stream: Reader, name: str) -> Iterator[list[bytes]]:
    """Split a stream at LF into runs of complete lines; bytes after the last LF are a line, too."""
    incomplete: list[bytes] = []
    is_first = True
    while block := _read(stream, name):
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            if is_first:
                check_signature(b"".join([*incomplete, block])[:SIGNATURE_BYTES], name)
            yield b"".join([*incomplete, head]).split(b"\n")
            incomplete, is_first = [], False
        incomplete.append(tail)
    last = b"".join(incomplete)
    # A file that holds a byte order mark alone has no line.
    if last and not (is_first and last == BOM_UTF8):
        if is_first:
            check_signature(last[:SIGNATURE_BYTES], name)
            check_line_ends(last, name)
        yield [last]


def _read(stream: Reader, name: str) -> bytes:
    try:
        return stream.read1(_CHUNK_BYTES)
    except OSError as error:
        raise KonerError(f"{name} can't be read: {error.strerror or first_line(error)}") from None
