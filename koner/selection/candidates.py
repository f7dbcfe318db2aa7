"""Candidates for annotation: texts with the uncertainty of a model, and where in the text it lies."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from koner.text.normalization import compose

if TYPE_CHECKING:
    from koner.inference.decoding import ScoredEntity, TaggedText
    from koner.inference.tagger import Tagger, TokenLogits

# A probability below this counts as this.
_LOWEST_PROBABILITY = 1e-6
# Uncertain words that a candidate keeps; the others are added to the last one of them.
_MOST_WORDS = 32
_SPACE, _DIGITS = re.compile(r"\s+"), re.compile(r"\d+")
# What words are told apart by: the first two syllables, which a particle seldom belongs to, or else the first run of
# other letters, or of digits, whichever they are.
_KEY = re.compile(r"[^\w]*([가-힣]{1,2}|[^\W\d가-힣]+|\d)")
_FINGERPRINT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may be annotated.

    Attributes:
        text: The text, as the pool has it.
        entities: The predicted entities.
        tokens: The number of the model's tokens.
        words: The uncertain words of the text: the key of each and its uncertainty, in nats, the largest first.
        fingerprint: Equal for texts that differ in white space and numbers only.
    """

    text: str
    entities: tuple[ScoredEntity, ...]
    tokens: int
    words: tuple[tuple[str, float], ...]
    fingerprint: bytes

    @property
    def uncertainty(self) -> float:
        """The negative logarithm of the probability of the predicted tag sequence, in nats.

        The model has no transition scores: given the text, the tags of the tokens are independent, and the probability
        of a sequence is the product of theirs.
        """
        return sum(uncertainty for _, uncertainty in self.words)

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
    logits = tagger.compute_logits(texts)
    tagged_texts = tagger.decode_all(logits)
    return [_candidate(*values) for values in zip(texts, logits, tagged_texts, strict=True)]


def sequence_score(probabilities: Sequence[float]) -> float:
    """Return the `score` of the candidate with tags of these probabilities."""
    if not probabilities:
        return 1.0
    return math.exp(sum(math.log(max(p, _LOWEST_PROBABILITY)) for p in probabilities) / len(probabilities))


def fingerprint(text: str) -> bytes:
    """Return a hash that is equal for texts that differ in white space, Unicode form and numbers only."""
    normalized = _DIGITS.sub("0", _SPACE.sub(" ", compose(text).text.strip()))
    return hashlib.blake2b(normalized.encode("utf-8", "surrogatepass"), digest_size=_FINGERPRINT_BYTES).digest()


def _candidate(text: str, logits: TokenLogits, tagged: TaggedText) -> Candidate:
    composed = logits.composed.text
    starts = _word_starts(composed)
    uncertainties: dict[str, float] = defaultdict(float)
    for (start, _), probability in zip(logits.windowed_text.offsets, tagged.token_scores, strict=True):
        uncertainties[_key(composed, starts[start])] -= math.log(max(probability, _LOWEST_PROBABILITY))
    words = sorted(uncertainties.items(), key=lambda item: -item[1])
    if len(words) > _MOST_WORDS:
        rest = sum(value for _, value in words[_MOST_WORDS - 1 :])
        words[_MOST_WORDS - 1 :] = [(words[_MOST_WORDS - 1][0], rest)]
    return Candidate(text, tagged.entities, len(tagged.token_tags), tuple(words), fingerprint(text))


def _word_starts(text: str) -> list[int]:
    """Return for each code point the start of its word; words are separated by white space."""
    starts, start = [], 0
    for i, character in enumerate(text):
        if character.isspace():
            start = i + 1
        starts.append(start)
    return starts


def _key(text: str, start: int) -> str:
    match = _KEY.match(text, start)
    if not match:
        return text[start : start + 1]
    key = match.group(1)
    return "0" if key.isdecimal() else key.casefold()
