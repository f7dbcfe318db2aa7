"""The annotations of one person in an export of Label Studio that holds those of several people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from koner.corpus.formats.base import Head
from koner.corpus.formats.json_files import read_items
from koner.corpus.formats.label_studio import LABEL_STUDIO
from koner.corpus.formats.records import write_json_array
from koner.errors import KonerError


def is_export(path: Path) -> bool:
    """Return whether a file is Label Studio's JSON export."""
    return path.is_file() and LABEL_STUDIO.matches(Head.of(path, "utf-8"))


def annotator_of(annotation: Mapping[str, Any]) -> str:
    """Return the person of an annotation: the number that Label Studio gave to them, or the e-mail address."""
    person = annotation.get("completed_by")
    if isinstance(person, Mapping):
        person = person.get("email") or person.get("id")
    return "unknown" if person is None else str(person)


def check_one_annotator(path: Path, option: str) -> None:
    """Check that no task of an export has valid annotations of several people.

    An annotation that is marked as the ground truth decides.

    Args:
        path: The export.
        option: The option that names a person, for the message.

    Raises:
        KonerError: If a task has; the message names it and the people.
    """
    for task in _tasks(path):
        annotations = _valid(task)
        people = Counter(map(annotator_of, annotations))
        if len(people) > 1 and not any(annotation.get("ground_truth") for annotation in annotations):
            raise KonerError(
                f"{path}: task {task.get('id')} has annotations of several people ({', '.join(sorted(people))}); name "
                f"the person whose annotations count by {option}"
            )


def select_annotator(path: Path, annotator: str, output: Path) -> None:
    """Write the tasks of an export that a person annotated, with this person's annotations only.

    Args:
        path: The export.
        annotator: The person, as `annotator_of` returns.
        output: The file to write.

    Raises:
        KonerError: If the export has no annotation of this person.
    """
    people: Counter[str] = Counter()

    def selected() -> Iterator[dict[str, Any]]:
        for task in _tasks(path):
            annotations = _valid(task)
            people.update(map(annotator_of, annotations))
            if mine := [annotation for annotation in annotations if annotator_of(annotation) == annotator]:
                yield {**task, "annotations": mine}

    write_json_array(output, selected())
    if not people[annotator]:
        output.unlink()
        raise KonerError(f"{path} has no annotation of {annotator}; it has those of {', '.join(sorted(people))}")


def _tasks(path: Path) -> Iterator[Mapping[str, Any]]:
    return (task for task in read_items(path, "utf-8") if isinstance(task, Mapping))


def _valid(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    annotations = task.get("annotations") or task.get("completions") or []
    return [a for a in annotations if isinstance(a, Mapping) and not a.get("was_cancelled")]
