"""The entities of texts, decoded from the logits of their tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from koner.inference.transitions import BioLabels
from koner.text.normalization import Composed
from koner.tokens.spans import Span

# A probability below this counts as this.
_LOWEST_PROBABILITY = 1e-6


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """The settings that a model's logits are decoded with, stored in its folder so that every reader decodes alike.

    Attributes:
        temperature: The divisor of the logits (temperature scaling).
        legal: Whether decoding is constrained to valid BIO sequences.
    """

    temperature: float = 1.0
    legal: bool = True


@dataclass(frozen=True, slots=True)
class ScoredEntity:
    """An entity that the tagger predicts in a text.

    Attributes:
        start: The first code point of the entity in the text.
        end: The code point after the last.
        label: The type.
        score: The mean, over the tokens of the entity, of the probability of the predicted label at the model's
            temperature.
    """

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class TaggedText:
    """The entities of a text, and the predicted BIO tag of each of its tokens with the tag's probability."""

    entities: tuple[ScoredEntity, ...]
    token_tags: tuple[str, ...]
    token_scores: tuple[float, ...]

    @cached_property
    def uncertainty(self) -> float:
        """The negative logarithm of the probability of the predicted tag sequence, in nats; 0 if there are no tokens.

        The model has no transition scores: given the text, the tags of the tokens are independent, and the probability
        of a sequence is the product of theirs.
        """
        return -sum(math.log(max(score, _LOWEST_PROBABILITY)) for score in self.token_scores)

    @property
    def score(self) -> float:
        """The geometric mean of the probabilities of the predicted tags; 1 if there are no tokens."""
        return math.exp(-self.uncertainty / max(1, len(self.token_scores)))


def decode(
    logits: np.ndarray,
    path: np.ndarray,
    starts: np.ndarray,
    labels: BioLabels,
    texts: Sequence[tuple[Composed, Sequence[Span]]],
    temperature: float,
) -> list[TaggedText]:
    """Decode the entities of texts from the predicted labels of their tokens.

    Args:
        logits: The logits of texts, one text after the other (tokens, labels).
        path: The ids of the predicted labels (tokens,).
        starts: The first token of each text, and the end of the last one (texts + 1,).
        labels: The labels.
        texts: Each text in NFC, with the spans of the original, and the span of each of its tokens in NFC, in code
            points.
        temperature: The divisor of the logits.

    Returns:
        The tagged texts; the spans of their entities are in the original texts, in order and disjoint.
    """
    scaled = logits / temperature
    scaled -= np.take_along_axis(scaled, path[:, None], axis=1)
    # The softmax, for the logit of the predicted label only.
    probabilities = 1 / np.exp(scaled, out=scaled).sum(axis=1)
    entities: list[list[ScoredEntity]] = [[] for _ in texts]
    for i, first, last, name, score in _find_entities(path, probabilities, starts, labels):
        (composed, offsets), found = texts[i], entities[i]
        position = found[-1].end if found else 0
        start, end = _trim_span(offsets[first][0], offsets[last][1], composed, position)
        if start < end:
            found.append(ScoredEntity(*composed.original_span(start, end), name, score))
    tags, scores = [labels.tags[i] for i in path.tolist()], probabilities.tolist()
    return [
        TaggedText(tuple(found), tuple(tags[start:end]), tuple(scores[start:end]))
        for found, (start, end) in zip(entities, pairwise(starts.tolist()), strict=True)
    ]


def _find_entities(
    path: np.ndarray, probabilities: np.ndarray, starts: np.ndarray, labels: BioLabels
) -> Iterator[tuple[int, int, int, str, float]]:
    """Yield the text of each entity, its first and last token there, its type and its score.

    Args:
        path: The ids of the predicted labels (tokens,).
        probabilities: Their probabilities (tokens,).
        starts: The first token of each text, and the end of the last one (texts + 1,).
        labels: The labels.
    """
    # As in `koner.labels.bio.bio_to_entities`: an I that continues nothing begins an entity.
    begins = np.flatnonzero(~labels.continues(path, starts)).tolist()
    ids, bounds = path.tolist(), starts.tolist()
    text = 0
    for begin, end in pairwise([*begins, len(ids)]):
        while begin >= bounds[text + 1]:
            text += 1
        if name := labels.type_names[ids[begin]]:
            # What `mean()` does, in a third of the time.
            score = float(np.add.reduce(probabilities[begin:end]) / (end - begin))
            yield text, begin - bounds[text], end - 1 - bounds[text], name, score


def _trim_span(start: int, end: int, composed: Composed, position: int) -> Span:
    """Return the part of a span at or after `position` in the original text, without spaces at its ends.

    Two tokens can share one character: ½ is read as 1, ⁄ and 2. The entity that comes first keeps the character.
    """
    while start < end and (composed.text[start].isspace() or composed.original_span(start, start + 1)[0] < position):
        start += 1
    while start < end and composed.text[end - 1].isspace():
        end -= 1
    return start, end
