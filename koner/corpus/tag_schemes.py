"""Schemes of tags (BIO, IOB1, BIOES, BILOU, BMES, IO) and the ways to write them, and their conversion to BIO.

IOB1 is the scheme of Ramshaw and Marcus (1995): an entity begins with I, and with B only directly after another entity
of its type. BIOES and BILOU mark the last token (E, L) and entities of one token (S, U) as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from koner.labels.bio import OUTSIDE

_LETTERS = "BIELMSU"
# How a tag is written, by an example; the groups are the letter and the type.
_NOTATIONS = {
    "B-PS": re.compile(rf"(?P<letter>[{_LETTERS}])-(?P<label>\S+)"),
    "PS-B": re.compile(rf"(?P<label>\S+)-(?P<letter>[{_LETTERS}])"),
    "B_PS": re.compile(rf"(?P<letter>[{_LETTERS}])_(?P<label>\S+)"),
    "PS_B": re.compile(rf"(?P<label>\S+)_(?P<letter>[{_LETTERS}])"),
}
_BARE = "PS"
_SCHEMES = {"BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
# What files write for O that have no O.
_OTHER_OUTSIDE = ("-", "_")
_BEGINS, _INSIDE, _ENDS, _SINGLE = "B", "IM", "EL", "SU"


@dataclass(frozen=True)
class TagScheme:
    """A scheme and a notation of tags.

    Attributes:
        name: `BIO`, `IOB1`, `BIOES`, `BILOU`, `BMES` or `IO`.
        notation: How a tag is written, by an example: `B-PS`, `PS-B`, `B_PS`, `PS_B`, or `PS` alone.
        outside: The tag of tokens outside any entity.
    """

    name: str = "BIO"
    notation: str = "B-PS"
    outside: str = OUTSIDE

    def __str__(self) -> str:
        return f"{self.name}, written {self.notation}" + ("" if self.outside == OUTSIDE else f" and {self.outside}")

    @property
    def is_plain_bio(self) -> bool:
        """Return whether tags are BIO tags as they are."""
        return self == TagScheme()

    @cached_property
    def _parsed(self) -> dict[str, tuple[str, str]]:
        return {self.outside: (OUTSIDE, "")}

    def parse(self, tag: str) -> tuple[str, str]:
        """Return the letter and the type of a tag.

        Raises:
            ValueError: If the tag is not written in this notation.
        """
        if (parsed := self._parsed.get(tag)) is None:
            if self.notation == _BARE:
                parsed = "I", tag
            elif match := _NOTATIONS[self.notation].fullmatch(tag):
                parsed = match["letter"], match["label"]
            else:
                hint = "; write the letter O, not a zero" if tag == "0" else ""
                raise ValueError(f"the tag '{tag}' is not written as the others of the file, {self}{hint}")
            self._parsed[tag] = parsed
        return parsed

    def to_bio(self, tags: Sequence[str]) -> tuple[list[str], list[int]]:
        """Return the BIO tags of a sequence, and the positions of the tags that the scheme does not allow there.

        An illegal sequence is read as conlleval reads BIO: a tag that continues nothing begins an entity.

        Raises:
            ValueError: If a tag is not written in this notation.
        """
        bio: list[str] = []
        illegal: list[int] = []
        open_label = ""  # the type of an entity that the next tag may continue
        must_continue = False  # whether the entity lacks its last token
        marks_ends = self.name in _SCHEMES
        for i, (letter, label) in enumerate(map(self.parse, tags)):
            continues = letter in _INSIDE + _ENDS and label == open_label
            if letter == OUTSIDE:
                is_legal = not must_continue
            elif letter in _BEGINS + _SINGLE:
                is_legal = label == open_label if self.name == "IOB1" else not must_continue
            else:
                is_legal = continues or (not marks_ends and self.name != "BIO")
            if not is_legal:
                illegal.append(i)
            bio.append(OUTSIDE if letter == OUTSIDE else f"{'I' if continues else 'B'}-{label}")
            open_label = "" if letter in _ENDS + _SINGLE else label
            must_continue = marks_ends and letter in _BEGINS + _INSIDE
        if must_continue:
            illegal.append(len(tags) - 1)
        return bio, sorted(set(illegal))


@dataclass
class TagCensus:
    """The tags of a file and which of them follow each other, from which their scheme is recognised."""

    pairs: set[tuple[str, str]] = field(default_factory=set)

    def add(self, tags: Iterable[str]) -> None:
        """Count the tags of a sentence."""
        tags = [OUTSIDE, *tags]
        self.pairs.update(pairwise(tags))

    def recognise(self) -> TagScheme:
        """Return the scheme of the tags.

        Raises:
            ValueError: If they are in none of the known schemes.
        """
        tags = {tag for _, tag in self.pairs}
        outside = next((tag for tag in (OUTSIDE, *_OTHER_OUTSIDE) if tag in tags), OUTSIDE)
        marked = sorted(tags - {outside})
        if not marked:
            return TagScheme(outside=outside)
        notation = _recognise_notation(marked, outside in tags)
        scheme = TagScheme("BIO", notation, outside)
        if notation == _BARE:
            return TagScheme("IO", notation, outside)
        letters = {match["letter"] for tag in marked if (match := _NOTATIONS[notation].fullmatch(tag))}
        if letters <= set("BI"):
            return TagScheme(self._recognise_bio(scheme, letters), notation, outside)
        for name, known in _SCHEMES.items():
            if letters <= set(known):
                return TagScheme(name, notation, outside)
        raise ValueError(
            f"the tags begin with {', '.join(sorted(letters))}, which is none of BIO, IOB1, BIOES, BILOU and BMES"
        )

    def _recognise_bio(self, scheme: TagScheme, letters: set[str]) -> str:
        if letters == {"I"}:
            return "IO"
        is_bio = is_iob1 = True
        for before, tag in self.pairs:
            match, match_before = (_NOTATIONS[scheme.notation].fullmatch(t) for t in (tag, before))
            continues = match and match_before and match["label"] == match_before["label"]
            if match and not continues:
                is_bio = is_bio and match["letter"] == "B"
                is_iob1 = is_iob1 and match["letter"] == "I"
        return "IOB1" if is_iob1 and not is_bio else "BIO"


def _recognise_notation(marked: Sequence[str], has_outside: bool) -> str:
    """Return the notation of most tags other than O.

    Raises:
        ValueError: If they have no letter and no tag means O.
    """
    fitting = {notation: sum(1 for tag in marked if pattern.fullmatch(tag)) for notation, pattern in _NOTATIONS.items()}
    best = max(fitting, key=fitting.__getitem__)
    if fitting[best]:
        return best
    if not has_outside:
        raise ValueError(f"unknown tag '{marked[0]}': no tag of the file is O, or begins with B- or I-")
    if "0" in marked:
        raise ValueError("the tag '0' is a zero; write the letter O")
    return _BARE
