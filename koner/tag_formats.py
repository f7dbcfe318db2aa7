"""What `koner tag` prints for a text: a table, a line of JSON, or the text with inline marks."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from koner.answers import Offsets, answer

if TYPE_CHECKING:
    from koner.decoding import ScoredEntity

Format = Literal["table", "jsonl", "inline"]
FORMATS: tuple[Format, ...] = get_args(Format)
_INLINE_REFERENCES = str.maketrans({"<": "&lt;", ">": "&gt;", "\n": "&#10;", "\r": "&#13;"})


def written(format_: Format, number: int, text: str, entities: Sequence[ScoredEntity], offsets: Offsets) -> str:
    """Writes what one text's result is in a format, its last line end included; `number` counts the texts from 1."""
    if format_ == "jsonl":
        return as_jsonl(text, entities, offsets)
    if format_ == "inline":
        return as_inline(text, entities)
    return as_table(text, entities, offsets, number)


def as_jsonl(text: str, entities: Sequence[ScoredEntity], offsets: Offsets) -> str:
    """Writes the object that `POST /infer` answers as a line of JSON, Hangul as it is."""
    return json.dumps(answer(text, entities, offsets=offsets), ensure_ascii=False) + "\n"


def as_inline(text: str, entities: Sequence[ScoredEntity]) -> str:
    """Writes entities into their text as KLUE's marks, `<서울:LC>에서`, on a line.

    Brackets and line ends of the text itself become `&lt;`, `&gt;`, `&#10;` and `&#13;`, so that every bracket in the
    line belongs to a mark; `&` becomes `&amp;` only where it would be read as such a reference. To read a line back,
    run `koner.corpus.parse_inline` and `html.unescape` what stands inside and between the marks.
    """
    pieces: list[str] = []
    position = 0
    for entity in entities:
        word = _referenced(text[entity.start : entity.end])
        pieces += [_referenced(text[position : entity.start]), f"<{word}:{entity.label}>"]
        position = entity.end
    return "".join(pieces) + _referenced(text[position:]) + "\n"


def as_table(text: str, entities: Sequence[ScoredEntity], offsets: Offsets, number: int) -> str:
    """Writes the text with its number, and its entities as a table that counts Hangul as two columns.

    Control characters and line ends are shown as Python writes them (`\\x1b`): no text may steer the terminal.
    """
    # No other format needs it.
    from tabulate import tabulate

    rows = [
        [_visible(found["word"]), found["entity_group"], f"{found['score']:.3f}", found["start"], found["end"]]
        for found in answer(text, entities, offsets=offsets)["result"]
    ]
    table = tabulate(
        rows,
        headers=["word", "type", "score", "start", "end"],
        colalign=["left", "left", "right", "right", "right"],
        disable_numparse=True,
    )
    return f"{number}: {_visible(text)}\n{table if rows else 'no entities'}\n\n"


def _referenced(piece: str) -> str:
    """Writes a piece of a text so that `html.unescape` gives it back and it holds no bracket and no line end."""
    if html.unescape(piece) != piece:
        piece = piece.replace("&", "&amp;")
    return piece.translate(_INLINE_REFERENCES)


def _visible(text: str) -> str:
    return "".join(
        c.encode("unicode_escape").decode("ascii") if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in text
    )
