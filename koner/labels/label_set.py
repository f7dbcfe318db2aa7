"""Label sets: the entity types of a corpus or a model, and their BIO tags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from koner.labels.bio import OUTSIDE, tag_type

# In code points.
_LONGEST_NAME = 100
# The punctuation of inline marks, `<서울:LC>`.
_MARK_CHARACTERS = "<>:"


def why_not_a_label(name: str) -> str | None:
    """Return why a text cannot be the name of an entity type, as the end of a sentence about it; None if it can.

    A name has 1 to 100 printable characters, is not `O`, and contains neither white space nor the punctuation of
    inline marks. `5GPLN`, `PS_NAME`, `LCP-CITY` and `인명` are names.
    """
    if not name:
        return "is empty"
    if name == OUTSIDE:
        return "is the tag of what is no entity"
    if len(name) > _LONGEST_NAME:
        return f"has more than {_LONGEST_NAME} characters"
    if any(character.isspace() for character in name):
        return "contains white space"
    if not name.isprintable():
        return "contains a character that is not printable"
    if found := next((character for character in name if character in _MARK_CHARACTERS), None):
        return f"contains '{found}'"
    return None


def why_not_a_tag(tag: str) -> str | None:
    """Return why a text cannot be a BIO tag, as the end of a sentence about it; None if it can."""
    if tag == OUTSIDE:
        return None
    if not tag.startswith(("B-", "I-")):
        return "is not O, B-TYPE or I-TYPE"
    reason = why_not_a_label(tag_type(tag))
    return f"has a type that {reason}" if reason else None


@dataclass(frozen=True)
class LabelSet:
    """Entity types in a fixed order, and their tags: B and I of each type, then O.

    Args:
        types: The names of the types.

    Raises:
        ValueError: If there is no type, a name is not valid, or a name is there twice.
    """

    types: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.types:
            raise ValueError("there is no label")
        for name in self.types:
            if reason := why_not_a_label(name):
                raise ValueError(f"the label {name[:_LONGEST_NAME]!r} {reason}")
        if repeated := next((name for name in self.types if self.types.count(name) > 1), None):
            raise ValueError(f"the label '{repeated}' is there twice")

    @classmethod
    def of(cls, names: Iterable[str]) -> LabelSet:
        """Return the set of some names, sorted, so that the same names give the same tag ids."""
        return cls(tuple(sorted(set(names))))

    @classmethod
    def from_tags(cls, tags: Iterable[str]) -> LabelSet:
        """Return the set of the types of BIO tags, such as the values of a model's `id2label`, in their order."""
        return cls(tuple(dict.fromkeys(tag_type(tag) for tag in tags if tag != OUTSIDE)))

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The BIO tags by id: `B-X` and `I-X` of each type, then `O`. KLUE-NER's class ids have the same order."""
        return (*chain.from_iterable((f"B-{name}", f"I-{name}") for name in self.types), OUTSIDE)

    @cached_property
    def tag_to_id(self) -> dict[str, int]:
        """The id of each tag."""
        return {tag: i for i, tag in enumerate(self.tags)}

    @cached_property
    def id_to_tag(self) -> dict[int, str]:
        """The tag of each id, as a model's `id2label` has it."""
        return dict(enumerate(self.tags))

    @cached_property
    def type_to_id(self) -> dict[str, int]:
        """The position of each type."""
        return {name: i for i, name in enumerate(self.types)}
