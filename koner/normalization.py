"""Unicode composition (NFC) that remembers where each character came from."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# As in the stream-safe format of UAX #15: to sort a longer run takes CPython the square of its length.
_MOST_MARKS = 30


@dataclass(frozen=True, slots=True)
class Composed:
    """A text in NFC with, for each of its code points, the half-open span it had in the original.

    `spans` is None where the original was NFC already and every code point is its own.
    """

    text: str
    spans: list[tuple[int, int]] | None = None

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Maps a non-empty span of the composed text to the original, in code points."""
        if self.spans is None:
            return start, end
        return self.spans[start][0], self.spans[end - 1][1]


def _is_mark(character: str) -> bool:
    """Tells whether a character may be reordered or composed with what stands before it."""
    # By the decomposition: U+0F73 and its like are of class 0 themselves and decompose to marks.
    return unicodedata.combining(unicodedata.normalize("NFD", character)[0]) != 0


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """Cuts a text into the shortest runs that compose independently of one another.

    A space is a run of its own, and so is what follows `_MOST_MARKS` marks.
    """
    start = 0
    for i, character in enumerate(text):
        run = text[start:i]
        if _is_mark(character) and not run.isspace() and len(run) <= _MOST_MARKS:
            continue
        composed = unicodedata.normalize("NFC", run)
        joined = unicodedata.normalize("NFC", composed + character)
        apart = composed + unicodedata.normalize("NFC", character)
        if run and (joined == apart or _is_mark(character)):
            yield start, run
            start = i
    if start < len(text):
        yield start, text[start:]


def compose(text: str) -> Composed:
    """Brings a text to NFC, keeping offsets in code points.

    Every code point of a run that composes together (a base and its marks, the letters of a Hangul syllable) maps
    to the whole run, so that no span can end inside one.
    """
    if unicodedata.is_normalized("NFC", text):
        return Composed(text)
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    for start, run in _clusters(text):
        composed = unicodedata.normalize("NFC", run)
        pieces.append(composed)
        spans.extend([(start, start + len(run))] * len(composed))
    return Composed("".join(pieces), spans)
