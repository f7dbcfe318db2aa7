"""The output formats of `koner tag`: a table, a line of JSON, the text with inline marks, or Label Studio's tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from koner.annotation.label_studio import Control, name_version, task
from koner.console import escape_controls
from koner.corpus.inline import write_inline_line
from koner.inference.offsets import OffsetUnit
from koner.labels.bio import Entity

if TYPE_CHECKING:
    from koner.inference.decoding import ScoredEntity

Format = Literal["table", "jsonl", "inline", "label-studio"]
FORMATS: tuple[Format, ...] = get_args(Format)
LABEL_STUDIO = "label-studio"
# Headers of the table that differ from the fields' names.
_HEADERS = {"entity_group": "type"}


@dataclass(frozen=True)
class Layout:
    """How results are printed.

    Attributes:
        format: Returns the result for a text: its number, counted from 1, the text, and its entities in order.
        start: What is printed before the first result.
        between: What is printed between two results.
        end: What is printed after the last result.
    """

    format: Callable[[int, str, Sequence[ScoredEntity]], str]
    start: str = ""
    between: str = ""
    end: str = ""


def find_layout(format_: Format, offsets: OffsetUnit, model: Path, control: Control) -> Layout:
    """Return the layout of a format.

    Args:
        format_: The format.
        offsets: The unit of `start` and `end`; tasks of Label Studio always count code points.
        model: The model folder, whose hash becomes part of the tasks of Label Studio.
        control: The tags of the labelling configuration, for the tasks of Label Studio.
    """
    if format_ == "jsonl":
        return Layout(lambda _, text, entities: format_jsonl(text, entities, offsets))
    if format_ == "inline":
        return Layout(lambda _, text, entities: format_inline(text, entities))
    if format_ == LABEL_STUDIO:
        from koner.release.hashing import folder_hash

        of_task = partial(format_task, model_version=name_version(folder_hash(model)), control=control)
        return Layout(lambda _, text, entities: of_task(text, entities), "[\n", ",\n", "\n]\n")
    return Layout(lambda number, text, entities: format_table(text, entities, offsets, number))


def format_task(text: str, entities: Iterable[ScoredEntity], model_version: str, control: Control) -> str:
    """Return a task for Label Studio as JSON on one line, with Hangul unescaped; the tasks of a file are an array."""
    return json.dumps(task(text, entities, model_version=model_version, control=control), ensure_ascii=False)


def format_jsonl(text: str, entities: Sequence[ScoredEntity], offsets: OffsetUnit) -> str:
    """Return the answer of `POST /infer` as a line of JSON, with Hangul unescaped."""
    # Pydantic is slow to import, and `koner --help` does not need it.
    from koner.inference.answers import build_answer

    answer = build_answer(text, entities, offsets=offsets)
    return json.dumps(answer.model_dump(), ensure_ascii=False) + "\n"


def format_inline(text: str, entities: Sequence[ScoredEntity]) -> str:
    """Return the text on one line, its entities marked as in KLUE: `<서울:LC>에서`.

    Brackets and line ends of the text itself become references, so that every bracket in the line belongs to a mark;
    see `koner.corpus.inline.write_inline_line`. `koner convert` reads the lines back.
    """
    return write_inline_line(text, [Entity(e.start, e.end, e.label) for e in entities]) + "\n"


def format_table(text: str, entities: Sequence[ScoredEntity], offsets: OffsetUnit, number: int) -> str:
    """Return the text with its number, and a table of its entities that counts Hangul as two columns.

    Control characters and line ends are shown as Python's escape sequences, so that no text can control the terminal or
    the order of the characters on it.
    """
    # Imported on use: no other format needs it.
    from tabulate import tabulate

    from koner.inference.answers import AnswerEntity, build_answer

    fields = AnswerEntity.model_fields
    columns = ["word", *(name for name in fields if name != "word")]
    rows = [
        [_format_cell(getattr(entity, column)) for column in columns]
        for entity in build_answer(text, entities, offsets=offsets).result
    ]
    table = tabulate(
        rows,
        headers=[_HEADERS.get(column, column) for column in columns],
        colalign=["right" if fields[column].annotation in (int, float) else "left" for column in columns],
        disable_numparse=True,
    )
    return f"{number}: {escape_controls(text)}\n{table if rows else 'no entities'}\n\n"


def _format_cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else escape_controls(str(value))
