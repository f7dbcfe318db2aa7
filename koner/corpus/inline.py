"""Inline annotation, `<서울:LC>에서`, as KLUE-NER writes it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable

from koner.labels.bio import OUTSIDE, Entity

_REFERENCES = str.maketrans({"<": "&lt;", ">": "&gt;", "\n": "&#10;", "\r": "&#13;"})
# The label is what no label contains the colon or the brackets of.
_MARK = re.compile(rf"<([^<>]+):((?!{OUTSIDE}>)[^<>:\s]+)>")


def parse_inline(
    annotated: str, mark_pattern: re.Pattern[str] = _MARK, read: Callable[[str], str] = str
) -> tuple[str, list[Entity]]:
    """Return the text and the entities of an inline annotation; spans are in code points.

    Brackets that do not form a mark are text, as in KLUE-NER.

    Args:
        annotated: The annotation.
        mark_pattern: The pattern of a mark, whose groups are the surface and the label.
        read: Returns the text that a piece inside or between marks stands for.
    """
    pieces: list[str] = []
    entities: list[Entity] = []
    length = position = 0
    for mark in mark_pattern.finditer(annotated):
        before, surface = read(annotated[position : mark.start()]), read(mark[1])
        start = length + len(before)
        pieces += [before, surface]
        length = start + len(surface)
        entities.append(Entity(start, length, mark[2]))
        position = mark.end()
    pieces.append(read(annotated[position:]))
    return "".join(pieces), entities


def write_inline(text: str, entities: Iterable[Entity], write: Callable[[str], str] = str) -> str:
    """Return the inline annotation of a text with disjoint entities, the inverse of `parse_inline`.

    Args:
        text: The text.
        entities: Its entities.
        write: Returns how a piece inside or between marks is written.
    """
    pieces: list[str] = []
    position = 0
    for entity in sorted(entities):
        surface = write(text[entity.start : entity.end])
        pieces += [write(text[position : entity.start]), f"<{surface}:{entity.label}>"]
        position = entity.end
    return "".join(pieces) + write(text[position:])


def write_inline_line(text: str, entities: Iterable[Entity]) -> str:
    """Return the inline annotation of a text with disjoint entities, as one line in which no mark is text.

    Brackets and line ends of the text become `&lt;`, `&gt;`, `&#10;` and `&#13;`; `&` becomes `&amp;` only if it would
    be read as such a reference. `html.unescape` on the pieces inside and between the marks is the inverse.
    """
    return write_inline(text, entities, _escape)


def _escape(piece: str) -> str:
    if html.unescape(piece) != piece:
        piece = piece.replace("&", "&amp;")
    return piece.translate(_REFERENCES)
