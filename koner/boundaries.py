"""Labels that also say where inside its token an entity ends, so that a token need not end where a name does.

A BIO tag on a token takes the whole token for the entity. Of Korean names many end inside one, before a particle that
the tokenizer left glued to them (`성이` in 유오성이), and some tokens hold two (`북미`). A tag's shapes tell these
apart: `B-PS/cut1` leaves the token's last character out, `B-LC/two` is two entities of half the token each.
"""

from __future__ import annotations

from collections.abc import Sequence

from koner.encoding import Span
from koner.labels import OUTSIDE, TAGS

_CUTS = {"cut1": 1, "cut2": 2}
_TWO = "two"
SHAPES: tuple[str, ...] = (*_CUTS, _TWO)
# The tags come first, so that a tag's id is the same with shapes and without.
LABELS: tuple[str, ...] = (*TAGS, *(f"{tag}/{shape}" for shape in SHAPES for tag in TAGS if tag != OUTSIDE))
LABEL_TO_ID: dict[str, int] = {label: i for i, label in enumerate(LABELS)}


def tag_of(label: str) -> str:
    """The BIO tag of a label, its shape left out."""
    return label.partition("/")[0]


def token_label(tags: Sequence[str]) -> str:
    """The label that says most of what the tags of a token's characters (at least one) say."""
    first, length = tags[0], len(tags)
    if first == OUTSIDE:
        return OUTSIDE
    goes_on = f"I-{first[2:]}"
    held = next((i for i in range(1, length) if tags[i] != goes_on), length)
    rest = tags[held:]
    for shape, cut in _CUTS.items():
        if len(rest) == cut and set(rest) == {OUTSIDE}:
            return f"{first}/{shape}"
    if len(rest) == held and rest[0] == f"B-{first[2:]}" and set(rest[1:]) <= {goes_on}:
        return f"{first}/{_TWO}"
    return first


def parts_of(label: str, span: Span) -> list[tuple[str, Span]]:
    """Takes a token apart into the BIO tags that its label gives to runs of its characters, in order.

    A shape that the token is too short for is passed over.
    """
    tag, _, shape = label.partition("/")
    start, end = span
    middle = (start + end) // 2 if shape == _TWO else end - _CUTS.get(shape, 0)
    if not start < middle < end:
        return [(tag, span)]
    return [(tag, (start, middle)), (f"B-{tag[2:]}" if shape == _TWO else OUTSIDE, (middle, end))]


def may_follow(previous: str, label: str) -> bool:
    """Tells whether BIO lets `label` stand after `previous`: an I only where an entity of its type still goes on."""
    tag, (before, _, shape) = tag_of(label), previous.partition("/")
    return tag[0] != "I" or (before[2:] == tag[2:] and shape not in _CUTS)
