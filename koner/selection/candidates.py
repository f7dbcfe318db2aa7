"""Candidates for annotation: texts, how uncertain a model is about them, and their words, which show repetitions."""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from koner.text.normalization import compose

if TYPE_CHECKING:
    from koner.inference.decoding import ScoredEntity
    from koner.inference.tagger import Tagger

_SPACE, _DIGITS = re.compile(r"\s+"), re.compile(r"\d+")
# What words are compared by: the first two syllables, which a particle seldom belongs to, or else the first run of
# other letters, or a digit, whichever it is.
_STEM = re.compile(r"\W*([가-힣]{1,2}|[^\W\d가-힣]+|\d)")
# At most so many pairs of words are kept of a long text: those with the lowest hashes, a random sample of all.
_MOST_PAIRS = 64
_FINGERPRINT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may be annotated.

    Attributes:
        text: The text, as the pool has it.
        entities: The predicted entities.
        tokens: The number of the model's tokens.
        uncertainty: The negative logarithm of the probability of the predicted tag sequence, in nats.
        pairs: Hashes of the pairs of neighbouring words.
        fingerprint: Equal for texts that differ in white space, Unicode form and numbers only.
    """

    text: str
    entities: tuple[ScoredEntity, ...]
    tokens: int
    uncertainty: float
    pairs: tuple[int, ...]
    fingerprint: bytes

    @property
    def normalized_uncertainty(self) -> float:
        """The uncertainty for each token: maximum normalized log-probability (MNLP, Shen et al. 2018)."""
        return self.uncertainty / max(1, self.tokens)

    @property
    def score(self) -> float:
        """The normalized probability of the predicted tag sequence: the geometric mean of those of its tags."""
        return math.exp(-self.normalized_uncertainty)


def find_candidates(tagger: Tagger, texts: Sequence[str]) -> list[Candidate]:
    """Tag texts, and return a candidate for each, in their order."""
    return [
        Candidate(
            text,
            tagged.entities,
            len(tagged.token_scores),
            tagged.uncertainty,
            word_pairs(text),
            fingerprint(text),
        )
        for text, tagged in zip(texts, tagger.tag_all(texts), strict=True)
    ]


def fingerprint(text: str) -> bytes:
    """Return a hash that is equal for texts that differ in white space, Unicode form and numbers only."""
    normalized = _DIGITS.sub("0", _SPACE.sub(" ", compose(text).text.strip()))
    return hashlib.blake2b(normalized.encode("utf-8", "surrogatepass"), digest_size=_FINGERPRINT_BYTES).digest()


def word_pairs(text: str) -> tuple[int, ...]:
    """Return the different hashes of the pairs of neighbouring words of a text, at least one.

    The beginning and the end of the text count as words. Words are compared by their first two syllables, or by the
    first run of other letters; all numbers are equal.
    """
    stems = ["", *map(_stem, compose(text).text.split()), ""]
    hashes = {zlib.crc32(f"{first} {second}".encode("utf-8", "surrogatepass")) for first, second in pairwise(stems)}
    return tuple(sorted(hashes)[:_MOST_PAIRS])


def _stem(word: str) -> str:
    match = _STEM.match(word)
    if not match:
        return word[:1]
    stem = match.group(1)
    return "0" if stem.isdecimal() else stem.casefold()
