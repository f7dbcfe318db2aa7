"""Entity types, BIO tags, and the way between tag sequences and entities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TYPES: tuple[str, ...] = ("DT", "LC", "OG", "PS", "QT", "TI")
OUTSIDE = "O"
# The order of KLUE-NER's class ids on the hub.
TAGS: tuple[str, ...] = (*(f"{prefix}-{type_}" for type_ in TYPES for prefix in "BI"), OUTSIDE)
TAG_TO_ID: dict[str, int] = {tag: i for i, tag in enumerate(TAGS)}
ID_TO_TAG: dict[int, str] = dict(enumerate(TAGS))
# What torch's cross entropy passes over.
IGNORED = -100
# A character for each tag, B as a capital, so that a sequence is a text that a regular expression reads.
_LETTER = {OUTSIDE: ".", **{f"{p}-{t}": t[0].upper() if p == "B" else t[0].lower() for t in TYPES for p in "BI"}}
_TYPE_OF = {_LETTER[f"B-{type_}"]: type_ for type_ in TYPES}
_ENTITY = re.compile("|".join(f"{letter}{letter.lower()}*+" for letter in _TYPE_OF))
_LEGAL = re.compile(rf"(?:\.++|{_ENTITY.pattern})*+")


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A named entity: the half-open span `start:end` (any one unit throughout) and its type."""

    start: int
    end: int
    label: str


def begins_entity(previous: str, tag: str) -> bool:
    """Tells whether `tag` opens an entity after `previous`, an I without its B counted as a B.

    The reading of conlleval, and of seqeval in its default mode: a wrong prefix still makes an entity.
    """
    if tag == OUTSIDE:
        return False
    return tag[0] == "B" or previous == OUTSIDE or previous[2:] != tag[2:]


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """Reads the entities off a BIO sequence; offsets count tags."""
    entities: list[Entity] = []
    start, label = 0, OUTSIDE
    previous = OUTSIDE
    for i, tag in enumerate(tags):
        # Most characters stand in no entity.
        if tag == previous == OUTSIDE:
            continue
        begins = begins_entity(previous, tag)
        if label != OUTSIDE and (begins or tag == OUTSIDE):
            entities.append(Entity(start, i, label))
            label = OUTSIDE
        if begins:
            start, label = i, tag[2:]
        previous = tag
    if label != OUTSIDE:
        entities.append(Entity(start, len(tags), label))
    return entities


def entities_if_legal(tags: Sequence[str]) -> list[Entity] | None:
    """Reads the entities off a BIO sequence; None where it has an unknown tag, or an I that continues nothing."""
    try:
        letters = "".join([_LETTER[tag] for tag in tags])
    except KeyError:
        return None
    if not _LEGAL.fullmatch(letters):
        return None
    return [Entity(m.start(), m.end(), _TYPE_OF[letters[m.start()]]) for m in _ENTITY.finditer(letters)]


def tags_of(entities: Sequence[Entity], length: int) -> list[str]:
    """Writes disjoint entities as a BIO sequence of `length` tags."""
    tags = [OUTSIDE] * length
    for entity in entities:
        tags[entity.start] = f"B-{entity.label}"
        for i in range(entity.start + 1, entity.end):
            tags[i] = f"I-{entity.label}"
    return tags


def first_illegal(tags: Sequence[str]) -> int | None:
    """Finds the first I tag that continues nothing of its type; None for a legal sequence."""
    previous = OUTSIDE
    for i, tag in enumerate(tags):
        if tag != previous and tag[0] == "I" and previous[2:] != tag[2:]:
            return i
        previous = tag
    return None
