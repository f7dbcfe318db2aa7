"""The entities of a text, decoded from the logits of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from koner.labels.bio import Entity
from koner.text.normalization import Composed
from koner.tokens.spans import Span, tokens_to_entities


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


def decode(
    logits: np.ndarray,
    path: np.ndarray,
    labels: Sequence[str],
    offsets: Sequence[Span],
    composed: Composed,
    temperature: float,
) -> TaggedText:
    """Decode the entities of a text from the predicted labels of its tokens.

    Args:
        logits: The logits, (tokens, labels).
        path: The ids of the predicted labels, (tokens,).
        labels: The label of each id.
        offsets: The span of each token in the composed text, in code points.
        composed: The text in NFC, with the spans of the original.
        temperature: The divisor of the logits.

    Returns:
        The tagged text; the spans of its entities are in the original text, in order and disjoint.
    """
    scaled = logits / temperature
    path_logits = np.take_along_axis(scaled, path[:, None], axis=1)
    # The softmax, for the logit of the predicted label only.
    probabilities = 1 / np.exp(scaled - path_logits).sum(axis=1)
    tags = [labels[i] for i in path]
    entities: list[ScoredEntity] = []
    position = 0
    for entity, (first, last) in tokens_to_entities(tags, offsets):
        start, end = _trim_span(entity, composed, position)
        if start < end:
            start, position = composed.original_span(start, end)
            entities.append(ScoredEntity(start, position, entity.label, float(probabilities[first:last].mean())))
    return TaggedText(tuple(entities), tuple(tags), tuple(probabilities.tolist()))


def _trim_span(entity: Entity, composed: Composed, position: int) -> Span:
    """Return the part of an entity's span at or after `position` in the original text, without spaces at its ends.

    Two tokens can share one character: ½ is read as 1, ⁄ and 2. The entity that comes first keeps the character.
    """
    start, end = entity.start, entity.end
    while start < end and (composed.text[start].isspace() or composed.original_span(start, start + 1)[0] < position):
        start += 1
    while start < end and composed.text[end - 1].isspace():
        end -= 1
    return start, end
