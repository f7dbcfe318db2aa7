"""Data sets in the layout of `klue/klue` on the Hugging Face hub, from the hub or from a local folder."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from koner.corpus.formats.tokens import read_tokens
from koner.corpus.part_files import part_of_name
from koner.corpus.parts import PUBLISHED_PARTS, TRAIN
from koner.corpus.raw import RawSentence
from koner.corpus.source_report import SourceReport
from koner.errors import KonerError, first_line
from koner.storage.hub import check_reachable
from koner.storage.parquet import BATCH

# By a pattern of the names that `datasets` has for them.
_TYPE_NAMES = {
    r"(large_)?string": "text",
    r"u?int": "whole numbers",
    r"float": "floating-point numbers",
    r"date|timestamp": "dates",
    r"null": "nothing but null",
    r"Json": "values of several types",
}
_COLUMN_TYPES = {
    "tokens": ("a list of text",),
    "ner_tags": ("a list of text", "a list of class labels"),
    "sentence": ("text", "nothing but null"),
    "guid": ("text", "whole numbers"),
    "source": ("text", "nothing but null"),
}


def read_hub_dataset(
    source: str, config: str, revision: str | None, report: SourceReport | None = None
) -> dict[str, Iterator[RawSentence]]:
    """Return a stream of the sentences of each published part.

    Args:
        source: A local folder, or the id of a data set on the hub.
        config: The configuration of the data set.
        revision: The revision on the hub.
        report: Where the scheme of the tags is noted.

    Raises:
        KonerError: If the data set cannot be read, or has no training part or lacks a column.
    """
    # `datasets` is slow to import, and the other sources do not need it.
    import datasets

    cache_folder = None
    if Path(source).is_dir():
        datasets.disable_progress_bars()
        # `datasets` converts the files to Arrow files, keeps these in HOME, and finds them again by the name of the
        # folder and its README.md alone: it would read the old sentences after a change of the files.
        cache_folder = _temporary_cache()
    else:
        check_reachable(source, revision, "dataset")
    try:
        dataset = datasets.load_dataset(source, config, revision=revision, cache_dir=cache_folder)
    except Exception as error:
        raise KonerError(
            f"source: {source} (configuration '{config}') can't be read as a dataset: {first_line(_root_cause(error))}"
        ) from None
    parts = {part: name for name in dataset if (part := part_of_name(name))}
    if TRAIN not in parts:
        raise KonerError(f"source: {source} has no part '{TRAIN}'; it has {', '.join(dataset)}")
    for part, name in parts.items():
        _check_columns(f"source: {source}, part '{part}'", dataset[name].features)
    report = report or SourceReport()

    def read(part: str) -> Iterator[RawSentence]:
        return read_tokens(lambda: _read_part(source, part, dataset[parts[part]]), part, report)

    return {part: read(part) for part in PUBLISHED_PARTS if part in parts}


def is_hub_layout(folder: Path) -> bool:
    """Return whether a folder is a data set in the hub's layout, whose README.md names the files of each part."""
    readme = folder / "README.md"
    if not readme.is_file():
        return False
    with readme.open(encoding="utf-8", errors="replace") as file:
        head = file.read(1 << 16)
    return head.startswith("---") and ("configs:" in head or "dataset_info:" in head)


def _root_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain: `datasets` raises another that says nothing about it."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return error


def _check_columns(where: str, features: Mapping[str, Any]) -> None:
    """Check that a part has the columns of KLUE-NER, with values of their types.

    Raises:
        KonerError: If it does not.
    """
    if missing_columns := {"tokens", "ner_tags"} - set(features):
        raise KonerError(f"{where}, has no column '{min(missing_columns)}'")
    types = {column: _type_name(feature) for column, feature in features.items()}
    if types["ner_tags"] == "a list of whole numbers":
        raise KonerError(
            f"{where}: 'ner_tags' has numbers without names, whose meaning is not known; write tags such as 'B-PS', or "
            "name the numbers by a `class_label` in `dataset_info` of its README.md"
        )
    for column, allowed in _COLUMN_TYPES.items():
        if column in types and types[column] not in allowed:
            raise KonerError(f"{where}: the column '{column}' must be {' or '.join(allowed)}, not {types[column]}")


def _type_name(feature: Any) -> str:
    """Describe the type of the values of a column."""
    if hasattr(feature, "feature"):
        return f"a list of {_type_name(feature.feature)}"
    if hasattr(feature, "names"):
        return "class labels"
    name = feature.dtype if type(feature).__name__ == "Value" else type(feature).__name__
    description = next((words for pattern, words in _TYPE_NAMES.items() if re.match(pattern, name)), None)
    return description or f"values of the type {name}"


def _temporary_cache() -> str:
    """Return a new folder, which is removed when the process ends: until then its files are read."""
    folder = tempfile.mkdtemp(prefix="koner-datasets-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _read_part(source: str, part: str, rows: Any) -> Iterator[RawSentence]:
    names = getattr(rows.features["ner_tags"].feature, "names", ())
    has_id, has_sentence = "guid" in rows.column_names, "sentence" in rows.column_names
    # Single rows would take `datasets` ten times as long.
    batches = rows.with_format("arrow").iter(batch_size=BATCH)
    number = 0
    for batch in batches:
        for row in _to_rows(batch, f"source: {source}, part '{part}', rows from {number}"):
            tags = [_tag_name(tag, names) for tag in row["ner_tags"] or []]
            id_ = row["guid"] if has_id else f"{part}-{number:05d}"
            yield RawSentence(
                f"{part}, row {number}",
                "" if id_ is None else str(id_),
                row.get("source"),
                row["tokens"] or [],
                tags,
                row["sentence"] if has_sentence else None,
            )
            number += 1


def _to_rows(batch: pa.Table, where: str) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        raise KonerError(f"{where}: a text is not UTF-8") from None
    return rows


def _tag_name(tag: Any, names: Sequence[str]) -> Any:
    """Return the name of a tag given by its name or class id; an id without a name becomes text that is refused."""
    if isinstance(tag, int):
        return names[tag] if 0 <= tag < len(names) else str(tag)
    return tag
