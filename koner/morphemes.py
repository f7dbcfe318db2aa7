"""Korean morphemes, by kiwipiepy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

_COMMON_NOUN = "NNG"
_UNKNOWN = "UN"
# The tags of kiwipiepy (the Sejong corpus' set, and its own), less the marks of irregular conjugation.
_TAGS = """
NNG NNP NNB NR NP VV VA VX VCP VCN MM MAG MAJ IC JKS JKC JKG JKO JKB JKV JKQ JX JC EP EF EC ETN ETM XPN XSN XSV XSA XSM
XR SF SP SS SSO SSC SE SO SW SL SH SN SB UN W_URL W_EMAIL W_HASHTAG W_MENTION W_SERIAL W_EMOJI Z_CODA Z_SIAT
"""
TAGS = tuple(_TAGS.split())
_TAG_IDS = {tag: i for i, tag in enumerate(TAGS)}


@dataclass(frozen=True, slots=True)
class Analysed:
    """A text and its morphemes in order: start and length in code points, and the tag's place in `TAGS`."""

    text: str
    morphemes: tuple[tuple[int, int, int], ...]


@cache
def _kiwi() -> Any:
    # Loads 90 MB of models, and most of the package does without it.
    from kiwipiepy import Kiwi

    return Kiwi()


def morpheme_starts(text: str) -> set[int]:
    """Where a morpheme begins in a text, in code points."""
    return {token.start for token in _kiwi().tokenize(text)}


def common_nouns(texts: Iterable[str]) -> Iterator[list[tuple[int, int]]]:
    """The spans of each text's common nouns of two syllables or more, in order, in code points."""
    for text in texts:
        tokens = _kiwi().tokenize(text)
        yield [(t.start, t.start + t.len) for t in tokens if t.tag == _COMMON_NOUN and t.len > 1]


def analyse(texts: Iterable[str]) -> Iterator[Analysed]:
    """Finds each text's morphemes on all cores, in the order of the texts, of which a few are read ahead."""
    for found, text in _kiwi().tokenize(texts, echo=True):
        yield Analysed(
            text,
            tuple((t.start, t.len, _TAG_IDS.get(t.tag.split("-")[0], _TAG_IDS[_UNKNOWN])) for t in found),
        )
