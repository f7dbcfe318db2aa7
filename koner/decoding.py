"""From the logits of a text's tokens to its entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from koner.boundaries import parts_of, tag_of
from koner.encoding import Span
from koner.labels import Entity, entities_of
from koner.normalization import Composed


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """What stands between a model's logits and its answers; kept in its folder, so that all who read it decode alike.

    `outside_bias` is added to the logit of O, which trades precision for recall. `legal` keeps the rules of BIO.
    """

    temperature: float = 1.0
    outside_bias: float = 0.0
    legal: bool = True


@dataclass(frozen=True, slots=True)
class ScoredEntity:
    """An entity found in a text: `text[start:end]` in code points of the text as given, its type and score.

    The score is the mean, over the entity's tokens, of the probability of the label that each was given, at the
    model's temperature.
    """

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class Tagged:
    """A text's entities, and the BIO tag that each of its tokens was given with its label's probability."""

    entities: tuple[ScoredEntity, ...]
    token_tags: tuple[str, ...]
    token_scores: tuple[float, ...]


def token_entities(labels: Sequence[str], offsets: Sequence[Span]) -> list[tuple[Entity, Span]]:
    """Reads entities off token labels as character spans, each with the half-open range of its tokens."""
    parts = [(tag, span, token) for token, label in enumerate(labels) for tag, span in parts_of(label, offsets[token])]
    return [
        (Entity(parts[e.start][1][0], parts[e.end - 1][1][1], e.label), (parts[e.start][2], parts[e.end - 1][2] + 1))
        for e in entities_of([tag for tag, _, _ in parts])
    ]


def decode(
    values: np.ndarray,
    path: np.ndarray,
    labels: Sequence[str],
    offsets: Sequence[Span],
    composed: Composed,
    temperature: float,
) -> Tagged:
    """Reads a text's entities off the labels that its tokens were given.

    `values` are logits (tokens, labels), `path` the ids of the labels given (tokens,), and `offsets` the tokens' spans
    in the composed text; the entities' spans are in the original, in order and disjoint.
    """
    scaled = values / temperature
    given = np.take_along_axis(scaled, path[:, None], axis=1)
    # The softmax of the logit of the label given.
    probabilities = 1 / np.exp(scaled - given).sum(axis=1)
    token_labels = [labels[i] for i in path]
    entities: list[ScoredEntity] = []
    position = 0
    for entity, (first, last) in token_entities(token_labels, offsets):
        start, end = _own_span(entity, composed, position)
        if start < end:
            start, position = composed.original_span(start, end)
            entities.append(ScoredEntity(start, position, entity.label, float(probabilities[first:last].mean())))
    return Tagged(tuple(entities), tuple(map(tag_of, token_labels)), tuple(probabilities.tolist()))


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
