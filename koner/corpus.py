"""The canonical corpus: checked sentences with one BIO tag per character, kept as Parquet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from koner.errors import KonerError
from koner.labels import TAGS, TYPES, Entity, entities_of, first_illegal, tags_of
from koner.normalization import compose

FAULTS_SHOWN = 20
ROW_GROUP = 10_000
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


def _aligned(raw: RawSentence) -> tuple[str, list[str]]:
    """Brings the two forms of a raw sentence to text and tags; raises ValueError that says what is wrong."""
    inline = parse_inline(raw.annotated) if raw.annotated is not None else None
    if raw.tokens is None or raw.tags is None:
        if inline is None:
            raise ValueError("neither characters with tags nor an annotated sentence")
        text, entities = inline
        stray = re.search(r"<[^<>]*:[^<>]*>|[<>]", text)
        if stray:
            raise ValueError(f"'{stray[0]}' is no mark of a known type; known are {', '.join(TYPES)}")
        return text, tags_of(entities, len(text))
    text, tags = "".join(raw.tokens), list(raw.tags)
    if len(tags) != len(raw.tokens):
        raise ValueError(f"{len(tags)} tags for {len(raw.tokens)} characters")
    for i, (token, tag) in enumerate(zip(raw.tokens, tags, strict=True)):
        if len(token) != 1:
            raise ValueError(f"token {i + 1} is '{token}', not one character")
        if tag not in _KNOWN_TAGS:
            raise ValueError(f"unknown tag '{tag}' on character {i + 1} '{token}'; known are {', '.join(TAGS)}")
    illegal = first_illegal(tags)
    if illegal is not None:
        raise ValueError(
            f"tag '{tags[illegal]}' on character {illegal + 1} '{text[illegal]}' continues no entity of its type"
        )
    # Written and compared, not parsed: a bracket inside a name (`<<10:QT>>점` in KLUE-NER) can be read in two ways.
    if inline is not None and write_inline(text, entities_of(tags)) != raw.annotated:
        if inline[0] != text:
            raise ValueError(f"the annotated sentence reads '{inline[0]}' but its characters spell '{text}'")
        raise ValueError("the annotated sentence and the tags disagree on the entities")
    return text, tags


def check(raw: RawSentence) -> Sentence:
    """Turns a raw sentence into a checked one, its text brought to NFC.

    Raises ValueError that says what is wrong: characters and tags of different number, a token that is not one
    character, an unknown tag, a tag sequence that breaks BIO, an annotated sentence that says otherwise than the
    tags, a blank text, an entity that begins or ends inside one composed character.
    """
    text, tags = _aligned(raw)
    if not text.strip():
        raise ValueError("the sentence is empty")
    composed = compose(text)
    if composed.spans is not None:
        spans = composed.spans
        inside = {offset for start, end in spans for offset in range(start + 1, end)}
        for entity in entities_of(tags):
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
    return Sentence(raw.id, composed.text, raw.source, tuple(tags), tuple(entities_of(tags)))


def checked(raws: Iterable[RawSentence], faults: Faults) -> Iterator[Sentence]:
    """Yields the sound sentences and notes the others in `faults`; ids must not repeat."""
    seen: dict[str, str] = {}
    for raw in raws:
        try:
            if raw.id in seen:
                raise ValueError(f"the id stands already at {seen[raw.id]}")
            seen[raw.id] = raw.where
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


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Writes rows to a Parquet file group by group, in constant memory; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    group: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for row in rows:
            group.append(row)
            if len(group) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema))
                count += len(group)
                group = []
        writer.write_table(pa.Table.from_pylist(group, schema))
    return count + len(group)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Reads the rows of a Parquet file batch by batch; raises `KonerError` where there is no such file."""
    if not path.is_file():
        raise KonerError(f"{path} is missing; run `dvc repro`")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1_000):
            yield from batch.to_pylist()


def describe(sentences: Iterable[Sentence]) -> dict[str, Any]:
    """Counts sentences, characters, entities per type, and texts that stand more than once."""
    characters = count = 0
    types: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    texts: Counter[int] = Counter()
    for sentence in sentences:
        count += 1
        characters += len(sentence.text)
        types.update(entity.label for entity in sentence.entities)
        if sentence.source:
            sources[sentence.source] += 1
        texts[hash(sentence.text)] += 1
    return {
        "sentences": count,
        "characters": characters,
        "entities": {"all": types.total(), **{type_: types[type_] for type_ in TYPES}},
        "sources": dict(sorted(sources.items())),
        "duplicates": count - len(texts),
    }
