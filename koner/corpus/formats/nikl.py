"""The JSON of the named-entity corpora of the National Institute of Korean Language (국립국어원 모두의 말뭉치)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.formats.json_files import read_items
from koner.corpus.formats.records import describe_type, require_list, write_json_array
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.sentences import Sentence

_DOCUMENTS = "document.item"


def read_nikl(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of all documents of a file; one document at a time is in memory."""
    numbers = count(1)
    for document_number, document in enumerate(read_items(path, options.encoding, _DOCUMENTS), start=1):
        where = f"{path.name}, document {document_number}"
        try:
            if not isinstance(document, Mapping):
                raise ValueError(f"it is {describe_type(document)}, not an object")
            sentences = require_list(document.get("sentence") or [], "sentence")
        except ValueError as fault:
            yield RawSentence(where, "", fault=str(fault))
            continue
        for sentence in sentences:
            default_id = f"{path.stem}-{next(numbers)}"
            try:
                yield _convert(sentence, where, default_id)
            except ValueError as fault:
                yield RawSentence(where, default_id, fault=str(fault))


def _convert(sentence: Any, where: str, default_id: str) -> RawSentence:
    if not isinstance(sentence, Mapping):
        raise ValueError(f"a sentence is {describe_type(sentence)}, not an object")
    entities = []
    for entity in require_list(sentence.get("NE") or [], "NE"):
        if not isinstance(entity, Mapping):
            raise ValueError(f"'NE' holds {describe_type(entity)}, not objects")
        entities.append(RawEntity(*(entity.get(key) for key in ("begin", "end", "label", "form"))))
    return RawSentence(where, str(sentence.get("id") or default_id), text=sentence.get("form"), entities=entities)


def _write(path: Path, sentences: Iterable[Sentence]) -> None:
    def documents() -> Iterator[dict[str, Any]]:
        for sentence in sentences:
            entities = [
                {
                    "id": i,
                    "form": sentence.text[e.start : e.end],
                    "label": e.label,
                    "begin": e.start,
                    "end": e.end,
                }
                for i, e in enumerate(sentence.entities, start=1)
            ]
            yield {"id": sentence.id, "sentence": [{"id": sentence.id, "form": sentence.text, "NE": entities}]}

    write_json_array(path, documents(), '{"id": "koner", "document": [\n', "\n]}\n")


def _matches(head: Head) -> bool:
    start = head.content[: 1 << 16].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"{") and b'"document"' in start and not head.has_keys(["text", "tokens"])


NIKL = Format(
    "nikl",
    "JSON of 국립국어원 모두의 말뭉치: `document`, `sentence`, `form` and `NE`",
    ".json",
    _matches,
    read_nikl,
    _write,
)
