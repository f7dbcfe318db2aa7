"""Characters as people see them, which may be several code points, and how messages show them."""

from __future__ import annotations

import unicodedata

import regex

_CHARACTER = regex.compile(r"\X")
_LONGEST_QUOTE = 40  # code points on either side
_FEW = 8


def is_one_character(token: str) -> bool:
    """Return whether a token is one character to a reader (an extended grapheme cluster of Unicode)."""
    return _CHARACTER.fullmatch(token) is not None


def quote(text: str, position: int = 0) -> str:
    """Return a text for a message: not long, and with the code points of what does not show.

    Args:
        text: The text.
        position: The position in the text that has to be in the quotation, in code points.
    """
    start, end = max(0, position - _LONGEST_QUOTE), position + _LONGEST_QUOTE
    shown = f"{'…' if start else ''}'{_escape(text[start:end])}'{'…' if end < len(text) else ''}"
    if 1 < len(text) <= _FEW and is_one_character(text):
        shown += f" ({' '.join(f'U+{ord(character):04X}' for character in text)})"
    return shown


def first_difference(a: str, b: str) -> int:
    """Return the position of the first code point in which two texts differ."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _escape(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in unicodedata.normalize("NFC", text))
