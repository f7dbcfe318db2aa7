"""BIO tags, entities, and the conversion between tag sequences and entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OUTSIDE = "O"
# The label id that torch's cross entropy ignores.
IGNORE_INDEX = -100


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A named entity: a half-open span `start:end` and its type.

    The unit of the span depends on the context: code points of a text, or tags of a sequence.
    """

    start: int
    end: int
    label: str


def tag_type(tag: str) -> str:
    """Return the type of a BIO tag, what follows its first hyphen; for O an empty text."""
    return tag[2:]


def is_valid_transition(previous: str, tag: str) -> bool:
    """Return whether BIO allows `tag` after `previous`: an I tag only continues an entity of its own type."""
    return tag[0] != "I" or tag_type(previous) == tag_type(tag)


def begins_entity(previous: str, tag: str) -> bool:
    """Return whether `tag` begins an entity after the tag `previous`.

    An I tag that continues nothing counts as a B tag. This is how conlleval and seqeval's default mode read sequences.
    """
    return tag[0] == "B" or not is_valid_transition(previous, tag)


def bio_to_entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of a BIO sequence, in order; their spans count tags.

    The sequence may be illegal: see `begins_entity`.
    """
    entities: list[Entity] = []
    start, label = 0, OUTSIDE
    previous = OUTSIDE
    for i, tag in enumerate(tags):
        # A short cut: most characters are outside any entity.
        if tag == previous == OUTSIDE:
            continue
        begins = begins_entity(previous, tag)
        if label != OUTSIDE and (begins or tag == OUTSIDE):
            entities.append(Entity(start, i, label))
            label = OUTSIDE
        if begins:
            start, label = i, tag_type(tag)
        previous = tag
    if label != OUTSIDE:
        entities.append(Entity(start, len(tags), label))
    return entities


def entities_to_bio(entities: Sequence[Entity], length: int) -> list[str]:
    """Return the BIO sequence of `length` tags for disjoint entities."""
    tags = [OUTSIDE] * length
    for entity in entities:
        tags[entity.start] = f"B-{entity.label}"
        for i in range(entity.start + 1, entity.end):
            tags[i] = f"I-{entity.label}"
    return tags


def first_illegal_tag(tags: Sequence[str]) -> int | None:
    """Return the position of the first I tag that does not continue an entity of its type, or None."""
    previous = OUTSIDE
    for i, tag in enumerate(tags):
        if tag != previous and not is_valid_transition(previous, tag):
            return i
        previous = tag
    return None
