"""The text that commands print."""

from __future__ import annotations

import io
import sys
import unicodedata

_CONTROLS = {"Cc", "Zl", "Zp"}
_ORDER_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def escape_unencodable() -> None:
    """Let standard output and error escape characters that their encoding lacks, where Python would raise an error.

    A Korean Windows console (CP949) has no emoji, and the locale C nothing but ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def escape_controls(text: str) -> str:
    """Return a text with its line ends and control characters as Python's escape sequences.

    Names of files and columns come from users' data. Printed as they are, they could control the terminal, or change
    the order in which the characters around them are shown.
    """
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c) in _CONTROLS or unicodedata.bidirectional(c) in _ORDER_CONTROLS
        else c
        for c in text
    )
