"""Korean morphemes, found by kiwipiepy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

_COMMON_NOUN = "NNG"
_UNKNOWN = "UN"
# The tags of kiwipiepy (those of the Sejong corpus and its own), without the marks of irregular conjugation.
_TAGS = """
NNG NNP NNB NR NP VV VA VX VCP VCN MM MAG MAJ IC JKS JKC JKG JKO JKB JKV JKQ JX JC EP EF EC ETN ETM XPN XSN XSV XSA XSM
XR SF SP SS SSO SSC SE SO SW SL SH SN SB UN W_URL W_EMAIL W_HASHTAG W_MENTION W_SERIAL W_EMOJI Z_CODA Z_SIAT
"""
TAGS = tuple(_TAGS.split())
_TAG_IDS = {tag: i for i, tag in enumerate(TAGS)}


@dataclass(frozen=True, slots=True)
class AnalysedText:
    """A text and its morphemes, in order: start and length in code points, and the index of the tag in `TAGS`."""

    text: str
    morphemes: tuple[tuple[int, int, int], ...]


@cache
def _kiwi() -> Any:
    # Importing loads 90 MB of models, and most of the package does not need them.
    from kiwipiepy import Kiwi

    return Kiwi()


def common_nouns(texts: Iterable[str]) -> Iterator[list[tuple[int, int]]]:
    """Yield for each text the spans of its common nouns of two or more syllables, in order, in code points."""
    for text in texts:
        tokens = _kiwi().tokenize(text)
        yield [(t.start, t.start + t.len) for t in tokens if t.tag == _COMMON_NOUN and t.len > 1]


def analyse(texts: Iterable[str]) -> Iterator[AnalysedText]:
    """Yield each text with its morphemes, in order; runs on all cores and reads a few texts ahead."""
    for tokens, text in _kiwi().tokenize(texts, echo=True):
        yield AnalysedText(
            text,
            tuple((t.start, t.len, _TAG_IDS.get(t.tag.split("-")[0], _TAG_IDS[_UNKNOWN])) for t in tokens),
        )
