"""Unicode composition (NFC) that keeps the original offsets."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# The limit of the stream-safe format of UAX #15: CPython takes quadratic time to sort a longer run of marks.
_MAX_MARKS = 30


@dataclass(frozen=True, slots=True)
class Composed:
    """A text in NFC and, for each of its code points, the half-open span of the original that it comes from.

    `spans` is None if the original was in NFC already, so that every code point maps to itself.
    """

    text: str
    spans: list[tuple[int, int]] | None = None

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original for a non-empty span of the composed text, in code points."""
        if self.spans is None:
            return start, end
        return self.spans[start][0], self.spans[end - 1][1]


def compose(text: str) -> Composed:
    """Convert a text to NFC and keep its original offsets, in code points.

    All code points of a run that composes together (a base and its marks, the letters of a Hangul syllable) map to the
    whole run, so that no span can end inside it.
    """
    if unicodedata.is_normalized("NFC", text):
        return Composed(text)
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    for start, run in _composable_runs(text):
        composed = unicodedata.normalize("NFC", run)
        pieces.append(composed)
        spans.extend([(start, start + len(run))] * len(composed))
    return Composed("".join(pieces), spans)


def _is_mark(character: str) -> bool:
    """Return whether normalization may reorder a character or compose it with the characters before it."""
    # Check the decomposition: U+0F73 and similar characters have class 0 themselves and decompose to marks.
    return unicodedata.combining(unicodedata.normalize("NFD", character)[0]) != 0


def _composable_runs(text: str) -> Iterator[tuple[int, str]]:
    """Yield the shortest runs of a text that compose independently of each other, each with its start.

    A space is a run of its own. A new run also begins after `_MAX_MARKS` marks.
    """
    start = 0
    for i, character in enumerate(text):
        run = text[start:i]
        if _is_mark(character) and not run.isspace() and len(run) <= _MAX_MARKS:
            continue
        composed = unicodedata.normalize("NFC", run)
        together = unicodedata.normalize("NFC", composed + character)
        apart = composed + unicodedata.normalize("NFC", character)
        if run and (together == apart or _is_mark(character)):
            yield start, run
            start = i
    if start < len(text):
        yield start, text[start:]
