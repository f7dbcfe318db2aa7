"""Rows with the columns `tokens` and `ner_tags`, as in data sets on the hub: Parquet, JSON lines or a JSON array."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from koner.corpus.formats.base import PARQUET_SIGNATURE, Format, Head, ReadOptions
from koner.corpus.formats.records import (
    read_records,
    record_id,
    record_part,
    require_list,
    write_json_lines,
)
from koner.corpus.formats.tokens import read_tokens
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.storage.parquet import write_rows

_TAG_KEYS = ("ner_tags", "tags", "ner", "labels")


def read_token_rows(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of a file of rows; class ids get the names that the metadata of a Parquet file holds."""
    names = _class_names(path)

    def convert(row: Mapping[str, Any], where: str, default_id: str) -> Iterable[RawSentence]:
        tokens = require_list(row.get("tokens"), "tokens")
        key = next((key for key in _TAG_KEYS if key in row), _TAG_KEYS[0])
        tags = [_name(tag, names) for tag in require_list(row.get(key), key)]
        if wrong := next((t for t in tokens if t is not None and not isinstance(t, str)), None):
            raise ValueError(f"the token {wrong!r:.60} is not text")
        text = row.get("text")
        annotated = row.get("sentence") if text is None and all(t and len(t) == 1 for t in tokens) else None
        yield RawSentence(
            where, record_id(row, default_id), row.get("source"), tokens, tags, annotated, text, part=record_part(row)
        )

    return read_tokens(lambda: read_records(path, options, convert), path.name, options.report)


def write_token_lines(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a line of JSON for each sentence, with the characters as tokens."""
    write_json_lines(path, sentences, to_row)


def write_token_parquet(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a Parquet file with a row for each sentence, with the characters as tokens."""
    import pyarrow as pa

    text_list = pa.list_(pa.string())
    schema = pa.schema([("id", pa.string()), ("tokens", text_list), ("ner_tags", text_list)])
    write_rows(path, map(to_row, sentences), schema)


def to_row(sentence: Sentence) -> dict[str, Any]:
    """Return the row of a sentence."""
    return {"id": sentence.id, "tokens": list(sentence.text), "ner_tags": list(sentence.tags)}


def _name(tag: Any, names: Sequence[str]) -> Any:
    if tag is None or isinstance(tag, str):
        return tag
    if isinstance(tag, int) and not names:
        raise ValueError("'ner_tags' has numbers without names, whose meaning is not known; write tags such as 'B-PS'")
    if not isinstance(tag, int) or not 0 <= tag < len(names):
        raise ValueError(f"the tag {tag!r:.60} is none of the {len(names)} names of class ids in the file")
    return names[tag]


def _class_names(path: Path) -> Sequence[str]:
    """Return the names of class ids in the metadata that `datasets` writes into Parquet files."""
    with path.open("rb") as file:
        if not file.read(4).startswith(PARQUET_SIGNATURE):
            return ()
    import pyarrow.parquet as pq

    metadata = (pq.read_schema(path).metadata or {}).get(b"huggingface")
    features = json.loads(metadata)["info"]["features"] if metadata else {}
    for key in _TAG_KEYS:
        if key in features:
            feature = features[key].get("feature", features[key])
            return list(feature.get("names", ()))
    return ()


def _is_parquet(head: Head) -> bool:
    return "tokens" in head.columns and any(key in head.columns for key in _TAG_KEYS)


TOKEN_LINES = Format(
    "tokens",
    "JSON lines with `tokens` and `ner_tags`, which are characters or words",
    ".jsonl",
    lambda head: head.has_keys(["tokens"], ["ner_tags", "tags", "ner"]),
    read_token_rows,
    write_token_lines,
)
TOKEN_PARQUET = Format(
    "parquet",
    "Parquet with the columns `tokens` and `ner_tags`, as on the hub",
    ".parquet",
    _is_parquet,
    read_token_rows,
    write_token_parquet,
)
