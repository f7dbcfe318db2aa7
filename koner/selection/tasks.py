"""The chosen texts as tasks for annotation, with the model's predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

from koner.annotation.label_studio import task
from koner.selection.candidates import Candidate

TaskFormat = Literal["label-studio", "jsonl"]
TASK_FORMATS: tuple[TaskFormat, ...] = get_args(TaskFormat)
_SCORE_DECIMALS = 6


def write_tasks(candidates: Iterable[Candidate], format_: TaskFormat, model_version: str) -> Iterator[str]:
    """Yield the lines of a file of tasks, in the order of the candidates.

    Args:
        candidates: The chosen texts.
        format_: `label-studio`: a JSON array for Label Studio's import. `jsonl`: a line of JSON for each task, with
            `text`, the predicted entities as `label` (start, end and type), and `score`, as doccano imports them.
        model_version: The name of the predictions in Label Studio.
    """
    if format_ == "jsonl":
        for candidate in candidates:
            yield _dump(_line(candidate)) + "\n"
        return
    separator = "[\n"
    for candidate in candidates:
        item = task(candidate.text, candidate.entities, model_version=model_version, score=score(candidate))
        yield separator + _dump(item)
        separator = ",\n"
    yield "\n]\n"


def score(candidate: Candidate) -> float:
    """Return the normalized probability of a candidate's tag sequence, by which annotation tools can sort."""
    return round(candidate.score, _SCORE_DECIMALS)


def _line(candidate: Candidate) -> dict[str, Any]:
    labels = [[entity.start, entity.end, entity.label] for entity in candidate.entities]
    return {"text": candidate.text, "label": labels, "score": score(candidate)}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
