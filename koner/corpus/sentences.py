"""Checked sentences with one BIO tag per character, and their form in Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from koner.labels.bio import Entity
from koner.storage.parquet import read_rows

# Sentences per batch, few enough to fit into the cache of a processor.
_BATCH = 200

ENTITY_FIELDS = [("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]
SENTENCE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("entities", pa.list_(pa.struct(ENTITY_FIELDS))),
    ]
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A checked sentence: text in NFC, one BIO tag per code point, and the entities of these tags."""

    id: str
    text: str
    source: str | None
    tags: tuple[str, ...]
    entities: tuple[Entity, ...]


def entities_to_rows(entities: Iterable[Entity]) -> list[dict[str, Any]]:
    """Return entities as structs of `ENTITY_FIELDS`."""
    return [{"start": e.start, "end": e.end, "label": e.label} for e in entities]


def rows_to_entities(rows: Iterable[dict[str, Any]]) -> tuple[Entity, ...]:
    """Return the entities of structs of `ENTITY_FIELDS`."""
    return tuple(Entity(e["start"], e["end"], e["label"]) for e in rows)


def to_row(sentence: Sentence) -> dict[str, Any]:
    """Return a sentence as a row of `SENTENCE_SCHEMA`."""
    return {
        "id": sentence.id,
        "text": sentence.text,
        "source": sentence.source,
        "tags": list(sentence.tags),
        "entities": entities_to_rows(sentence.entities),
    }


def from_row(row: dict[str, Any]) -> Sentence:
    """Return the sentence of a row that has at least the columns of `SENTENCE_SCHEMA`."""
    return Sentence(row["id"], row["text"], row["source"], tuple(row["tags"]), rows_to_entities(row["entities"]))


def sentence_batches(sentences: Iterable[Sentence]) -> Iterator[pa.RecordBatch]:
    """Yield sentences in batches of `SENTENCE_SCHEMA`, built column by column, which is faster than row by row."""
    sentences = iter(sentences)
    while batch := list(islice(sentences, _BATCH)):
        tags, entities = ([getattr(s, name) for s in batch] for name in ("tags", "entities"))
        spans = [(e.start, e.end, e.label) for e in chain.from_iterable(entities)]
        columns = zip(*spans, strict=True) if spans else ([], [], [])
        structs = [pa.array(column, type_) for column, (_, type_) in zip(columns, ENTITY_FIELDS, strict=True)]
        yield pa.RecordBatch.from_arrays(
            [
                *(pa.array([getattr(s, name) for s in batch], pa.string()) for name in ("id", "text", "source")),
                _list_array(tags, pa.array(list(chain.from_iterable(tags)), pa.string())),
                _list_array(
                    entities, pa.StructArray.from_arrays(structs, fields=[pa.field(*f) for f in ENTITY_FIELDS])
                ),
            ],
            schema=SENTENCE_SCHEMA,
        )


def _list_array(lists: Sequence[Sized], values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, *accumulate(map(len, lists))], pa.int32()), values)


@dataclass(frozen=True)
class StoredSentences:
    """The sentences of a Parquet file of `SENTENCE_SCHEMA`, which is read again at each iteration."""

    path: Path

    def __iter__(self) -> Iterator[Sentence]:
        return map(from_row, read_rows(self.path, SENTENCE_SCHEMA.names))
