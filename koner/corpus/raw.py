"""Sentences of a source before any check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from koner.corpus.tag_schemes import TagScheme


@dataclass(frozen=True, slots=True)
class RawEntity:
    """An entity as a source gives it.

    Attributes:
        start: The first offset, normally in code points.
        end: The first offset after the entity.
        label: The type.
        form: The text of the entity, if the source gives it; the offsets must agree with it.
    """

    start: Any
    end: Any
    label: Any
    form: Any = None


@dataclass(frozen=True, slots=True)
class RawSentence:
    """A sentence of a source, in one of these forms: tokens with tags, an inline annotation (or both), text with spans.

    Attributes:
        where: The file and line, or the row, for messages.
        id: The id of the sentence.
        source: The kind of the text, such as `wikitree`, if known.
        tokens: The tokens; None for one that is missing. Without `text`, each is one character.
        tags: The tag of each token; None for one that is missing.
        annotated: The inline annotation, `<서울:LC>에서`.
        text: The text that the tokens or the entities belong to.
        entities: The entities of `text`.
        scheme: The scheme of the tags; None is BIO, written `B-PS`.
        part: The part of the corpus, if the source names it beside the sentence.
        may_be_utf16: Whether offsets may count UTF-16 code units, as in JavaScript. The forms of the entities decide;
            without them, code points are assumed.
        fault: What the reader found wrong with the sentence.
    """

    where: str
    id: str
    source: str | None = None
    tokens: Sequence[Any] | None = None
    tags: Sequence[Any] | None = None
    annotated: str | None = None
    text: Any = None
    entities: Sequence[RawEntity] | None = None
    scheme: TagScheme | None = None
    part: str | None = None
    may_be_utf16: bool = False
    fault: str | None = None
