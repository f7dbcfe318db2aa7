"""Korean morphemes, by kiwipiepy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

_COMMON_NOUN = "NNG"


@cache
def _kiwi() -> Any:
    # Loads 90 MB of models, and most of the package does without it.
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def morpheme_starts(text: str) -> set[int]:
    """Where a morpheme begins in a text, in code points."""
    return {token.start for token in _kiwi().tokenize(text)}


def common_nouns(texts: Iterable[str]) -> Iterator[list[tuple[int, int]]]:
    """The spans of each text's common nouns of two syllables or more, in order, in code points."""
    for text in texts:
        tokens = _kiwi().tokenize(text)
        yield [(t.start, t.start + t.len) for t in tokens if t.tag == _COMMON_NOUN and t.len > 1]
