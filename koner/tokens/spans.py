"""Spans of tokens, and the entities that a sequence of token tags describes."""

from __future__ import annotations

from collections.abc import Sequence

from koner.labels.bio import Entity, bio_to_entities

Span = tuple[int, int]
"""A half-open range of code points or tokens."""


def tokens_to_entities(tags: Sequence[str], offsets: Sequence[Span]) -> list[tuple[Entity, Span]]:
    """Return the entities that token tags describe, as spans of characters, each with the range of its tokens."""
    return [
        (Entity(offsets[e.start][0], offsets[e.end - 1][1], e.label), (e.start, e.end)) for e in bio_to_entities(tags)
    ]
