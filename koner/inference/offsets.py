"""The units in which an answer counts the offsets of its entities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, get_args

OffsetUnit = Literal["codepoint", "utf16"]
OFFSET_UNITS: tuple[OffsetUnit, ...] = get_args(OffsetUnit)


def offset_table(text: str, unit: OffsetUnit) -> Sequence[int]:
    """Return the offset, in a unit, of each code point of a text and of its end.

    Code points are the unit of Python's strings, UTF-16 code units that of JavaScript, Java and C#.
    """
    # Most texts have no character that takes two code units, and a range is faster than a list.
    if unit == "codepoint" or len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text):
        return range(len(text) + 1)
    return list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))
