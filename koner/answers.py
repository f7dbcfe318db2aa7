"""The answer to a text: the object that `POST /infer` and `koner tag` both give."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from koner.decoding import ScoredEntity, Tagged

Offsets = Literal["codepoint", "utf16"]
OFFSETS: tuple[Offsets, ...] = get_args(Offsets)
_SCORE_DECIMALS = 6


def answer(
    text: str,
    tagged: Tagged | Sequence[ScoredEntity],
    *,
    offsets: Offsets = "codepoint",
    min_score: float = 0.0,
    labels: Collection[str] | None = None,
) -> dict[str, Any]:
    """Lays a text and its entities out as `{"input": text, "result": [{entity_group, score, word, start, end}]}`.

    `start` and `end` count code points, or UTF-16 code units as JavaScript, Java and C# do; the score is rounded to
    six decimals. `min_score` and `labels` choose as `chosen` does.
    """
    ends = _utf16_ends(text) if offsets == "utf16" and not text.isascii() else range(len(text) + 1)
    return {
        "input": text,
        "result": [
            {
                "entity_group": entity.label,
                "score": round(entity.score, _SCORE_DECIMALS),
                "word": text[entity.start : entity.end],
                "start": ends[entity.start],
                "end": ends[entity.end],
            }
            for entity in chosen(tagged, min_score, labels)
        ],
    }


def chosen(
    tagged: Tagged | Sequence[ScoredEntity], min_score: float = 0.0, labels: Collection[str] | None = None
) -> list[ScoredEntity]:
    """Keeps the entities of at least `min_score` and, where `labels` is given, of those types."""
    entities = tagged if isinstance(tagged, Sequence) else tagged.entities
    return [e for e in entities if e.score >= min_score and (labels is None or e.label in labels)]


def _utf16_ends(text: str) -> list[int]:
    """The number of UTF-16 code units before each code point of a text, and before its end."""
    return list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))
