"""Label Studio's exports: JSON (tasks with annotations) and JSON-MIN (a record for each annotation).

The offsets count UTF-16 code units or code points, depending on the version
(https://github.com/HumanSignal/label-studio/issues/1347, pull request 1559); the `text` of each region decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.formats.records import (
    describe_type,
    read_records,
    record_id,
    record_part,
    require_list,
    write_json_array,
)
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import SourceReport

_ANNOTATION_KEYS = ("annotations", "completions")
# Keys of JSON-MIN that do not hold regions, beside those of the task's own data.
_TIMES = ("updated_at", "created_at")


def read_label_studio(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of a JSON export.

    Of each task, the ground truth is read, or else the annotation that was changed last; the others are counted. A
    cancelled annotation is counted and not read, and so is a task without any other.
    """

    def convert(task: Mapping[str, Any], where: str, default_id: str) -> Iterable[RawSentence]:
        id_ = record_id(task, default_id)
        data = task.get("data")
        if not isinstance(data, Mapping):
            raise ValueError(f"'data' is {describe_type(data)}, not an object")
        key = next((key for key in _ANNOTATION_KEYS if key in task), _ANNOTATION_KEYS[0])
        annotations = require_list(task.get(key), key)
        annotation = _choose(annotations, where, id_, options.report)
        if annotation is None:
            return
        regions = require_list(annotation.get("result"), "result")
        entities = [entity for region in regions for entity in _entities(region)]
        yield _sentence(where, str(data.get("id", id_)), _text(data, entities), entities, record_part(data))

    return read_records(path, options, convert)


def read_label_studio_min(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of a JSON-MIN export; of the records of a task, the one that was changed last."""

    def convert(record: Mapping[str, Any], where: str, default_id: str) -> Iterable[RawSentence]:
        entities = [
            entity
            for value in record.values()
            if isinstance(value, list)
            for region in value
            for entity in _entities({"value": region})
        ]
        if record.get("was_cancelled"):
            options.report.add("cancelled_annotations", where, record_id(record, default_id), "it was cancelled")
            return
        times[where] = max(str(record.get(key) or "") for key in _TIMES)
        yield _sentence(where, record_id(record, default_id), _text(record, entities), entities, record_part(record))

    times: dict[str, str] = {}
    for id_, records in groupby(read_records(path, options, convert), key=lambda raw: raw.id):
        of_task = list(records)
        last = max(of_task, key=lambda raw: times.get(raw.where, ""))
        times.clear()
        for raw in of_task:
            if raw.fault or raw is last:
                yield raw
            else:
                options.report.add("other_annotations", raw.where, id_, "another annotation of the task is newer")


def _sentence(where: str, id_: str, text: Any, entities: Sequence[RawEntity], part: str | None) -> RawSentence:
    return RawSentence(where, id_, text=text, entities=entities, part=part, may_be_utf16=True)


def _choose(annotations: Sequence[Any], where: str, id_: str, report: SourceReport) -> Mapping[str, Any] | None:
    """Return the annotation of a task that counts; the others are reported."""
    valid = []
    for annotation in annotations:
        if not isinstance(annotation, Mapping):
            raise ValueError(f"an annotation is {describe_type(annotation)}, not an object")
        if annotation.get("was_cancelled"):
            report.add("cancelled_annotations", where, id_, f"annotation {annotation.get('id')}")
        else:
            valid.append(annotation)
    if not valid:
        report.add("skipped_sentences", where, id_, "the task has no annotation")
        return None
    chosen = max(valid, key=lambda a: (bool(a.get("ground_truth")), *(str(a.get(time) or "") for time in _TIMES)))
    for annotation in valid:
        if annotation is not chosen:
            report.add("other_annotations", where, id_, f"annotation {annotation.get('id')}")
    return chosen


def _entities(region: Any) -> Iterator[RawEntity]:
    """Yield the entities of a region, one for each label; relations and choices have none."""
    value = region.get("value") if isinstance(region, Mapping) else None
    if not isinstance(value, Mapping):
        return
    labels = value.get("labels", value.get("hypertextlabels"))
    if labels is None or "start" not in value:
        return
    for label in require_list(labels, "labels"):
        yield RawEntity(_whole(value["start"]), _whole(value.get("end")), label, value.get("text"))


def _whole(offset: Any) -> Any:
    """Return an offset that some versions write as text as a number."""
    return int(offset) if isinstance(offset, str) and offset.isdigit() else offset


def _text(data: Mapping[str, Any], entities: Sequence[RawEntity]) -> str:
    """Return the text that was annotated: the field `text`, or else the only field that holds all entities."""
    if isinstance(data.get("text"), str):
        return str(data["text"])
    forms = [entity.form for entity in entities if isinstance(entity.form, str)]
    texts = [v for k, v in data.items() if isinstance(v, str) and k not in _TIMES and all(form in v for form in forms)]
    if len(texts) != 1:
        raise ValueError("it has no field 'text'" + (", and several fields could hold the text" if texts else ""))
    return texts[0]


def _write(path: Path, sentences: Iterable[Sentence]) -> None:
    def task(number: int, sentence: Sentence) -> dict[str, Any]:
        result = [
            {"id": f"{number}-{i}", "from_name": "label", "to_name": "text", "type": "labels", "value": value}
            for i, value in enumerate(_regions(sentence))
        ]
        data = {"id": sentence.id, "text": sentence.text}
        return {"id": number, "data": data, "annotations": [{"id": number, "was_cancelled": False, "result": result}]}

    write_json_array(path, (task(number, s) for number, s in enumerate(sentences, start=1)))


def _write_min(path: Path, sentences: Iterable[Sentence]) -> None:
    write_json_array(path, ({"id": s.id, "text": s.text, "label": _regions(s), "annotator": 1} for s in sentences))


def _regions(sentence: Sentence) -> list[dict[str, Any]]:
    return [
        {"start": e.start, "end": e.end, "text": sentence.text[e.start : e.end], "labels": [e.label]}
        for e in sentence.entities
    ]


def has_regions(record: Mapping[str, Any]) -> bool:
    """Return whether a field of a record holds regions, as in JSON-MIN."""
    return any(
        isinstance(value, list) and any(isinstance(item, dict) and "labels" in item for item in value)
        for value in record.values()
    )


def _is_min(head: Head) -> bool:
    if not isinstance(head.record, dict) or head.has_keys(["data"]):
        return False
    return has_regions(head.record) or head.has_keys(["annotator", "annotation_id", "lead_time"])


LABEL_STUDIO = Format(
    "label-studio",
    "Label Studio's JSON export: tasks with `data` and `annotations`",
    ".json",
    lambda head: head.has_keys(["data"], _ANNOTATION_KEYS),
    read_label_studio,
    _write,
)
LABEL_STUDIO_MIN = Format(
    "label-studio-min",
    "Label Studio's JSON-MIN export: a record for each annotation",
    ".json",
    _is_min,
    read_label_studio_min,
    _write_min,
)
