"""From the logits of a text's tokens to its entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from koner.encoding import Span
from koner.labels import Entity, entities_of
from koner.normalization import Composed


@dataclass(frozen=True, slots=True)
class ScoredEntity:
    """An entity found in a text: `text[start:end]` in code points of the text as given, its type and score.

    The score is the mean, over the entity's tokens, of the probability of the tag that each was given, at the model's
    temperature.
    """

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class Tagged:
    """A text's entities, and the tag that each of its tokens was given with that tag's probability."""

    entities: tuple[ScoredEntity, ...]
    token_tags: tuple[str, ...]
    token_scores: tuple[float, ...]


def token_entities(tags: Sequence[str], offsets: Sequence[Span]) -> list[tuple[Entity, Span]]:
    """Reads entities off token tags as character spans, each with the half-open range of its tokens."""
    return [(Entity(offsets[e.start][0], offsets[e.end - 1][1], e.label), (e.start, e.end)) for e in entities_of(tags)]


def decode(
    values: np.ndarray, tags: Sequence[str], offsets: Sequence[Span], composed: Composed, temperature: float
) -> Tagged:
    """Gives each token its likeliest tag, and reads the entities off those.

    `values` are logits (tokens, tags) and `offsets` the tokens' spans in the composed text; the entities' spans are in
    the original, in order and disjoint.
    """
    scaled = values / temperature
    best = scaled.argmax(axis=1)
    # The softmax of the highest logit.
    probabilities = 1 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)
    token_tags = tuple(tags[i] for i in best)
    entities: list[ScoredEntity] = []
    position = 0
    for entity, (first, last) in token_entities(token_tags, offsets):
        start, end = _own_span(entity, composed, position)
        if start < end:
            start, position = composed.original_span(start, end)
            entities.append(ScoredEntity(start, position, entity.label, float(probabilities[first:last].mean())))
    return Tagged(tuple(entities), token_tags, tuple(probabilities.tolist()))


def _own_span(entity: Entity, composed: Composed, position: int) -> Span:
    """What of an entity's span lies beyond `position` in the original, and is no space at either end.

    One character can be of two tokens, as ½ is where it is read as 1, ⁄ and 2: the former entity has it.
    """
    start, end = entity.start, entity.end
    while start < end and (composed.text[start].isspace() or composed.original_span(start, start + 1)[0] < position):
        start += 1
    while start < end and composed.text[end - 1].isspace():
        end -= 1
    return start, end
