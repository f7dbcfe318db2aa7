"""The canonical corpus: checked sentences with one BIO tag per character, kept as Parquet."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from koner.errors import KonerError
from koner.labels import TAGS, TYPES, Entity, entities_if_legal, entities_of, first_illegal, tags_of
from koner.normalization import compose
from koner.parquet import read_rows

FAULTS_SHOWN = 20
# Sentences at a time, so few that a processor's cache holds them.
_LAID_OUT = 200
_MARK = re.compile(rf"<([^<>]+):({'|'.join(TYPES)})>")
_KNOWN_TAGS = frozenset(TAGS)

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
class RawSentence:
    """A sentence as a source gives it, before any check.

    `where` names the file and line or row. `tokens` and `tags` are the source's characters and BIO tags; `annotated`
    is the inline form, `<서울:LC>`. A source gives either or both.
    """

    where: str
    id: str
    source: str | None = None
    tokens: Sequence[str] | None = None
    tags: Sequence[str] | None = None
    annotated: str | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """A checked sentence: NFC text, one BIO tag per code point, and the entities those tags spell."""

    id: str
    text: str
    source: str | None
    tags: tuple[str, ...]
    entities: tuple[Entity, ...]


@dataclass
class Faults:
    """What is wrong with a source, gathered over the whole of it."""

    shown: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, id_: str, what: str) -> None:
        self.count += 1
        if len(self.shown) < FAULTS_SHOWN:
            self.shown.append(f"{where}: {id_}: {what}" if id_ else f"{where}: {what}")

    def raise_if_any(self) -> None:
        """Raises one `KonerError` that shows the first faults and counts them all."""
        if self.count == 0:
            return
        if self.count == 1:
            raise KonerError(self.shown[0])
        more = f"\n  … and {self.count - len(self.shown)} more" if self.count > len(self.shown) else ""
        raise KonerError(f"{self.count} faults in the source:\n  " + "\n  ".join(self.shown) + more)


def parse_inline(annotated: str) -> tuple[str, list[Entity]]:
    """Splits an inline annotation, `<서울:LC>에서`, into its text and entities (code points).

    Brackets that make no mark are text, as they are in KLUE-NER.
    """
    pieces: list[str] = []
    entities: list[Entity] = []
    length = position = 0
    for mark in _MARK.finditer(annotated):
        before = annotated[position : mark.start()]
        start = length + len(before)
        pieces += [before, mark[1]]
        length = start + len(mark[1])
        entities.append(Entity(start, length, mark[2]))
        position = mark.end()
    pieces.append(annotated[position:])
    return "".join(pieces), entities


def write_inline(text: str, entities: Iterable[Entity]) -> str:
    """Writes entities into their text as inline marks, the inverse of `parse_inline`."""
    pieces: list[str] = []
    position = 0
    for entity in sorted(entities):
        pieces += [text[position : entity.start], f"<{text[entity.start : entity.end]}:{entity.label}>"]
        position = entity.end
    return "".join(pieces) + text[position:]


def _aligned(raw: RawSentence) -> tuple[str, list[str], list[Entity]]:
    """Brings the two forms of a raw sentence to text, tags, entities; raises ValueError that says what is wrong."""
    if raw.tokens is None or raw.tags is None:
        if raw.annotated is None:
            raise ValueError("neither characters with tags nor an annotated sentence")
        text, entities = parse_inline(raw.annotated)
        stray = re.search(r"<[^<>]*:[^<>]*>|[<>]", text)
        if stray:
            raise ValueError(f"'{stray[0]}' is no mark of a known type; known are {', '.join(TYPES)}")
        return text, tags_of(entities, len(text)), entities
    text, tags = "".join(raw.tokens), list(raw.tags)
    if len(tags) != len(raw.tokens):
        raise ValueError(f"{len(tags)} tags for {len(raw.tokens)} characters")
    found = entities_if_legal(tags)
    if found is None or set(map(len, raw.tokens)) != {1}:
        _refuse_first_odd(raw.tokens, tags)
    entities = found or []
    # Written and compared, not parsed: a bracket inside a name (`<<10:QT>>점` in KLUE-NER) can be read in two ways.
    if raw.annotated is not None and write_inline(text, entities) != raw.annotated:
        if (read := parse_inline(raw.annotated)[0]) != text:
            raise ValueError(f"the annotated sentence reads '{read}' but its characters spell '{text}'")
        raise ValueError("the annotated sentence and the tags disagree on the entities")
    return text, tags, entities


def _refuse_first_odd(tokens: Sequence[str], tags: Sequence[str]) -> None:
    for i, (token, tag) in enumerate(zip(tokens, tags, strict=True)):
        if len(token) != 1:
            raise ValueError(f"token {i + 1} is '{token}', not one character")
        if tag not in _KNOWN_TAGS:
            raise ValueError(f"unknown tag '{tag}' on character {i + 1} '{token}'; known are {', '.join(TAGS)}")
    illegal = first_illegal(tags)
    if illegal is not None:
        raise ValueError(
            f"tag '{tags[illegal]}' on character {illegal + 1} '{tokens[illegal]}' continues no entity of its type"
        )


def check(raw: RawSentence) -> Sentence:
    """Turns a raw sentence into a checked one, its text brought to NFC.

    Raises ValueError that says what is wrong: characters and tags of different number, a token that is not one
    character, an unknown tag, a tag sequence that breaks BIO, an annotated sentence that says otherwise than the
    tags, a blank text, an entity that begins or ends inside one composed character.
    """
    text, tags, entities = _aligned(raw)
    if not text.strip():
        raise ValueError("the sentence is empty")
    composed = compose(text)
    if composed.spans is not None:
        spans = composed.spans
        inside = {offset for start, end in spans for offset in range(start + 1, end)}
        for entity in entities:
            if entity.start in inside or entity.end in inside:
                raise ValueError(
                    f"the entity '{text[entity.start : entity.end]}' begins or ends inside a composed character"
                )
        first_tag = [tags[start] for start, _ in spans]
        # Several code points of one run share its start: only the first of them may keep a B.
        tags = [
            f"I{tag[1:]}" if tag[0] == "B" and i and spans[i] == spans[i - 1] else tag
            for i, tag in enumerate(first_tag)
        ]
        entities = entities_of(tags)
    return Sentence(raw.id, composed.text, raw.source, tuple(tags), tuple(entities))


class _Ids:
    """Where each id stood first; on disk where they are many, so that memory does not grow with a corpus."""

    def __init__(self) -> None:
        # The empty name is SQLite's for a temporary file, which it makes only when its cache is full.
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.execute("CREATE TABLE stood (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._base.execute("BEGIN")

    def stands_at(self, id_: str, where: str) -> str | None:
        """The place where the id stood before; None for a new one, which now stands at `where`."""
        if self._base.execute("INSERT OR IGNORE INTO stood VALUES (?, ?)", (str(id_), where)).rowcount:
            return None
        return str(self._base.execute("SELECT place FROM stood WHERE id = ?", (str(id_),)).fetchone()[0])

    def close(self) -> None:
        self._base.close()


def checked(raws: Iterable[RawSentence], faults: Faults) -> Iterator[Sentence]:
    """Yields the sound sentences and notes the others in `faults`; ids must not repeat."""
    with closing(_Ids()) as ids:
        for raw in raws:
            try:
                if before := ids.stands_at(raw.id, raw.where):
                    raise ValueError(f"the id stands already at {before}")
                yield check(raw)
            except ValueError as fault:
                faults.add(raw.where, raw.id, str(fault))


def entity_rows(entities: Iterable[Entity]) -> list[dict[str, Any]]:
    """Lays entities out as structs of `ENTITY_FIELDS`."""
    return [{"start": e.start, "end": e.end, "label": e.label} for e in entities]


def entities_from_rows(rows: Iterable[dict[str, Any]]) -> tuple[Entity, ...]:
    """Reads entities back from structs of `ENTITY_FIELDS`."""
    return tuple(Entity(e["start"], e["end"], e["label"]) for e in rows)


def to_row(sentence: Sentence) -> dict[str, Any]:
    """Lays a sentence out as a row of `SENTENCE_SCHEMA`."""
    return {
        "id": sentence.id,
        "text": sentence.text,
        "source": sentence.source,
        "tags": list(sentence.tags),
        "entities": entity_rows(sentence.entities),
    }


def from_row(row: dict[str, Any]) -> Sentence:
    """Reads a sentence back from a row that holds at least the columns of `SENTENCE_SCHEMA`."""
    return Sentence(
        row["id"],
        row["text"],
        row["source"],
        tuple(row["tags"]),
        entities_from_rows(row["entities"]),
    )


def sentence_batches(sentences: Iterable[Sentence]) -> Iterator[pa.RecordBatch]:
    """Lays sentences out in batches of rows of `SENTENCE_SCHEMA`: what `to_row` gives, column by column."""
    sentences = iter(sentences)
    while batch := list(islice(sentences, _LAID_OUT)):
        tags, entities = ([getattr(s, name) for s in batch] for name in ("tags", "entities"))
        spans = [(e.start, e.end, e.label) for e in chain.from_iterable(entities)]
        columns = zip(*spans, strict=True) if spans else ([], [], [])
        structs = [pa.array(column, type_) for column, (_, type_) in zip(columns, ENTITY_FIELDS, strict=True)]
        yield pa.RecordBatch.from_arrays(
            [
                *(pa.array([getattr(s, name) for s in batch], pa.string()) for name in ("id", "text", "source")),
                _lists(tags, pa.array(list(chain.from_iterable(tags)), pa.string())),
                _lists(entities, pa.StructArray.from_arrays(structs, fields=[pa.field(*f) for f in ENTITY_FIELDS])),
            ],
            schema=SENTENCE_SCHEMA,
        )


def _lists(lists: Sequence[Sized], values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, *accumulate(map(len, lists))], pa.int32()), values)


@dataclass(frozen=True)
class StoredSentences:
    """The sentences of a Parquet file that holds `SENTENCE_SCHEMA`, read anew each time they are gone through."""

    path: Path

    def __iter__(self) -> Iterator[Sentence]:
        return map(from_row, read_rows(self.path, SENTENCE_SCHEMA.names))
