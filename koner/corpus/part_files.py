"""The files of a source and the parts that they belong to, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from koner.corpus.parts import PUBLISHED_PARTS, TEST, TRAIN, VALIDATION
from koner.errors import KonerError

_NAMES = {
    TRAIN: "train|training",
    VALIDATION: "dev|devel|development|val|valid|validation",
    TEST: "test|testing|eval|evaluation",
}
# A word of a name, which a digit, a sign or a change of case ends.
_PATTERNS = {part: re.compile(rf"(?<![a-z])(?:{names})(?![a-z])", re.I) for part, names in _NAMES.items()}
_DATA = {
    ".tsv",
    ".txt",
    ".conll",
    ".conllu",
    ".bio",
    ".iob",
    ".iob2",
    ".jsonl",
    ".json",
    ".ndjson",
    ".parquet",
    ".spacy",
}
_OTHER_FILES = re.compile(r"readme|licen[cs]e|guidelines?|notice|changelog|dataset_infos?|labels\.", re.I)


def part_of_name(name: str) -> str | None:
    """Return the part that a word in a name stands for: the name of a file, or the value of `split`."""
    found = [part for part, pattern in _PATTERNS.items() if pattern.search(name)]
    return found[0] if len(found) == 1 else None


def find_part_files(source: Path) -> dict[str, list[Path]]:
    """Return the data files of each part of a source, in the order of their names.

    A single file is the training part, and so are the files of a folder if none of their names has such a word.
    Folders are searched to any depth; the name of a folder within the source counts for its files.

    Raises:
        KonerError: If a folder has no data file, or if only some of the names have such a word.
    """
    if source.is_file():
        return {TRAIN: [source]}
    paths = sorted(p for p in source.rglob("*") if _is_data(p.relative_to(source)) and p.is_file())
    if not paths:
        raise KonerError(f"source: {source} has no data file ({', '.join(sorted(_DATA))})")
    by_part: dict[str | None, list[Path]] = {}
    for path in paths:
        by_part.setdefault(_part_of(path.relative_to(source)), []).append(path)
    unknown = by_part.pop(None, [])
    if unknown and by_part:
        named = next(iter(by_part.values()))[0].name
        raise KonerError(
            f"source: {unknown[0]} does not tell its part by its name, as {named} does; name it train, dev or test, or "
            "move it elsewhere"
        )
    return {TRAIN: unknown} if unknown else {part: by_part[part] for part in PUBLISHED_PARTS if part in by_part}


def _is_data(path: Path) -> bool:
    is_hidden = any(name.startswith((".", "_")) for name in path.parts)
    return path.suffix.lower() in _DATA and not is_hidden and not _OTHER_FILES.match(path.name)


def _part_of(path: Path) -> str | None:
    names: Iterable[str] = (path.stem, *reversed(path.parent.parts))
    return next((part for name in names if (part := part_of_name(name))), None)
