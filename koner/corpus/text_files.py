"""Text files of a corpus, read in pieces of complete lines."""

from __future__ import annotations

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from pathlib import Path

from koner.errors import KonerError

CHUNK = 1 << 18  # code points
_FIRST_BYTES = 1 << 20  # more than the longest line
_CARRIAGE_RETURNS = re.compile(r"\r++(?=\n|\Z)")


def read_chunks(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    r"""Yield a text file in chunks of complete lines that end with `\n`.

    A byte order mark at the start of the file is removed. Lines end with LF or CR LF, or with CR in a file without LF.

    Raises:
        KonerError: If the file does not exist or is not in this encoding.
    """
    if not path.is_file():
        raise KonerError(f"{path} is missing")
    line_end = _line_end(path)
    with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline=line_end) as file:
        try:
            while text := file.read(CHUNK):
                text += file.readline()
                if line_end == "\r":
                    text = text.replace("\r", "\n")
                yield _CARRIAGE_RETURNS.sub("", text) if "\r" in text else text
        except UnicodeDecodeError:
            raise KonerError(_describe_first_wrong_byte(path, encoding)) from None


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Yield the lines of a text file without their ends, as `read_chunks` reads it; raises as it does."""
    for chunk in read_chunks(path, encoding):
        yield from split_lines(chunk)


def _line_end(path: Path) -> str:
    """Return the character that ends the lines of a file."""
    with path.open("rb") as file:
        first_bytes = file.read(_FIRST_BYTES)
    return "\r" if b"\r" in first_bytes and b"\n" not in first_bytes else "\n"


def split_lines(text: str) -> list[str]:
    """Return the lines of a text of complete lines."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def _describe_first_wrong_byte(path: Path, encoding: str) -> str:
    """Return a message with the line of the first byte that the encoding lacks; the decoder of a file has no lines."""
    name = encoding.upper()
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
                return f"{path} is UTF-16; convert it to UTF-8"
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                is_cp949 = encoding == "utf-8" and _is_cp949(line)
                hint = "; it may be CP949: set `encoding` to cp949, or convert it to UTF-8" if is_cp949 else ""
                return f"{path}:{number}: byte {error.start + 1} of the line is not {name}{hint}"
    return f"{path} is not {name}"


def _is_cp949(line: bytes) -> bool:
    try:
        return any("가" <= character <= "힣" for character in line.decode("cp949"))
    except UnicodeDecodeError:
        return False
