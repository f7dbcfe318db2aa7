"""Records of a text and spans: doccano, Prodigy and spaCy, and the answers of `koner tag` and `POST /infer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.formats.label_studio import has_regions
from koner.corpus.formats.records import (
    describe_type,
    read_records,
    record_id,
    record_part,
    require_list,
    write_json_lines,
)
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.sentences import Sentence

_LABEL_KEYS = ("label", "entity_group", "type", "tag")
_START_KEYS, _END_KEYS = ("start", "start_offset", "begin"), ("end", "end_offset")
_FORM_KEYS = ("text", "word", "form")
# The answers that Prodigy's annotators give to an example; others are not annotated.
_ACCEPTED = (None, "accept")


def read_doccano(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of doccano's JSON lines: `label` or `labels` with `[start, end, type]`, or `entities`.

    The offsets are read as code points. Some versions count UTF-16 code units
    (https://github.com/doccano/doccano/issues/2290), and the file does not say which; sentences in which these
    differ are counted.
    """
    return read_records(path, options, partial(_convert, span_keys=("label", "labels", "entities"), may_be_utf16=True))


def read_spans(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of records with `text` and `spans` (Prodigy, spaCy) or `entities`, without rejected ones."""

    def convert(record: Mapping[str, Any], where: str, default_id: str) -> Iterable[RawSentence]:
        if record.get("answer") not in _ACCEPTED:
            id_ = record_id(record, default_id)
            options.report.add("skipped_sentences", where, id_, f"its answer is {record['answer']}")
            return ()
        return _convert(record, where, default_id, span_keys=("spans", "entities"))

    return read_records(path, options, convert)


def read_answers(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the answers of `koner tag --format jsonl` and `POST /infer`."""
    convert = partial(_convert, span_keys=("result",), text_key="input", may_be_utf16=True)
    return read_records(path, options, convert)


def _convert(
    record: Mapping[str, Any],
    where: str,
    default_id: str,
    *,
    span_keys: tuple[str, ...],
    text_key: str = "text",
    may_be_utf16: bool = False,
) -> Iterable[RawSentence]:
    text = record.get(text_key)
    if not isinstance(text, str):
        raise ValueError(f"'{text_key}' is {describe_type(text)}, not text")
    key = next((key for key in span_keys if key in record), None)
    if key is None:
        raise ValueError(f"it has no field {' or '.join(map(repr, span_keys))}")
    entities = [_entity(span, key) for span in require_list(record[key], key)]
    yield RawSentence(
        where,
        record_id(record, default_id),
        record.get("source") if isinstance(record.get("source"), str) else None,
        text=text,
        entities=entities,
        part=record_part(record),
        may_be_utf16=may_be_utf16,
    )


def _entity(span: Any, key: str) -> RawEntity:
    """Return the entity of a span: a list of start, end and type, or an object."""
    if isinstance(span, list) and len(span) == 3:
        return RawEntity(*span)
    if isinstance(span, Mapping):
        keys = (_START_KEYS, _END_KEYS, _LABEL_KEYS, _FORM_KEYS)
        return RawEntity(*(next((span[k] for k in names if k in span), None) for names in keys))
    raise ValueError(f"'{key}' holds {span!r:.60}, not [start, end, type]")


def _write_doccano(path: Path, sentences: Iterable[Sentence]) -> None:
    def convert(sentence: Sentence) -> dict[str, Any]:
        label = [[e.start, e.end, e.label] for e in sentence.entities]
        return {"id": sentence.id, "text": sentence.text, "label": label}

    write_json_lines(path, sentences, convert)


def _write_spans(path: Path, sentences: Iterable[Sentence]) -> None:
    def convert(sentence: Sentence) -> dict[str, Any]:
        spans = [{"start": e.start, "end": e.end, "label": e.label} for e in sentence.entities]
        return {"id": sentence.id, "text": sentence.text, "spans": spans}

    write_json_lines(path, sentences, convert)


def _has_lists(*keys: str) -> Callable[[Head], bool]:
    def matches(head: Head) -> bool:
        return head.has_keys(["text"], keys) and any(isinstance(head.record.get(key), list) for key in keys)

    return matches


def _has_offset_objects(head: Head) -> bool:
    """Return whether the entities of the first record are written as by doccano, with `start_offset`."""
    if not head.has_keys(["text"], ["entities"]):
        return False
    entities = head.record["entities"]
    return "relations" in head.record or (
        isinstance(entities, list) and any(isinstance(e, dict) and "start_offset" in e for e in entities)
    )


def _is_doccano(head: Head) -> bool:
    is_list = _has_lists("label", "labels")(head) and not has_regions(head.record) and "lead_time" not in head.record
    return is_list or _has_offset_objects(head)


def _is_parquet(head: Head) -> bool:
    return "text" in head.columns and ("spans" in head.columns or "entities" in head.columns)


DOCCANO = Format(
    "doccano",
    "doccano's JSON lines: `text`, and `label` or `labels` with [start, end, type]",
    ".jsonl",
    _is_doccano,
    read_doccano,
    _write_doccano,
)
SPANS = Format(
    "spans",
    "JSON lines of Prodigy and spaCy: `text`, and `spans` with start, end and label",
    ".jsonl",
    lambda head: _has_lists("spans", "entities")(head) or _is_parquet(head),
    read_spans,
    _write_spans,
)
ANSWERS = Format(
    "koner",
    "answers of `koner tag --format jsonl` and `POST /infer`: `input` and `result`",
    ".jsonl",
    lambda head: head.has_keys(["input"], ["result"]),
    read_answers,
)
