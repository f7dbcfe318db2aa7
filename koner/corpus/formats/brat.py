"""brat's standoff: a `.txt` file with a sentence a line, and an `.ann` file with entities by offsets into all of it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from koner.corpus.formats.base import Format, ReadOptions
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.text_files import read_lines
from koner.errors import KonerError
from koner.storage.outputs import atomic_file

_ENTITY = re.compile(r"(T\S*)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")
# Relations, events, attributes, normalizations, notes and equivalences, which entities do not need.
_OTHERS = tuple("REAMN#*")


def read_brat(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the lines of a document as sentences.

    Args:
        path: The `.txt` file; the `.ann` file lies beside it.
        options: How to read it.
    """
    # brat counts code points of the file as it is, and so a CR before a line end, which `lines` lack.
    with path.open(encoding="utf-8-sig" if options.encoding == "utf-8" else options.encoding, newline="") as file:
        has_returns = "\r\n" in file.read(1 << 20)
    lines = list(read_lines(path, options.encoding))
    starts = [0, *accumulate(len(line) + (2 if has_returns else 1) for line in lines)]
    entities: dict[int, list[RawEntity]] = defaultdict(list)
    annotations = path.with_suffix(".ann")
    for number, line in enumerate(read_lines(annotations, options.encoding), start=1):
        if not line.strip() or line.startswith(_OTHERS):
            if line.strip():
                options.report.add("skipped_annotations", f"{annotations.name}:{number}", "", "it is no entity")
            continue
        where = f"{annotations.name}:{number}"
        try:
            line_number, entity = _parse(line, starts, lines)
        except ValueError as fault:
            yield RawSentence(where, "", fault=str(fault))
        else:
            entities[line_number].append(entity)
    for i, line in enumerate(lines):
        if line.strip():
            where = f"{path.name}:{i + 1}"
            yield RawSentence(where, f"{path.stem}-line-{i + 1}", text=line, entities=entities[i])


def _parse(line: str, starts: Sequence[int], lines: Sequence[str]) -> tuple[int, RawEntity]:
    """Return the index of the line that an entity is in, and the entity with offsets into that line."""
    match = _ENTITY.fullmatch(line)
    if not match:
        raise ValueError("the line is not an entity: 'T1', a tab, the type, start and end, a tab and the text")
    name, label, offsets, form = match.groups()
    if ";" in offsets:
        raise ValueError(f"{name}: the entity has several fragments, {offsets}, which tags cannot express")
    start, end = map(int, offsets.split())
    i = bisect_right(starts, start) - 1
    if i >= len(lines) or start >= end:
        raise ValueError(f"{name}: the offsets {start} {end} are not within the text of {starts[-1]} code points")
    if end > starts[i] + len(lines[i]):
        raise ValueError(f"{name}: the entity at {start} {end} goes on over the end of line {i + 1}")
    return i, RawEntity(start - starts[i], end - starts[i], label, form)


def write_brat(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a `.txt` file with a sentence a line, and an `.ann` file beside it.

    Raises:
        KonerError: If a text has a line end.
    """
    annotations = path.with_suffix(".ann")
    offset, number = 0, 0
    with (
        atomic_file(path) as text_draft,
        atomic_file(annotations) as draft,
        text_draft.open("w", encoding="utf-8", newline="") as texts,
        draft.open("w", encoding="utf-8", newline="") as file,
    ):
        for sentence in sentences:
            if "\n" in sentence.text or "\r" in sentence.text:
                raise KonerError(f"{sentence.id}: the text has a line end, which a line of brat's text cannot hold")
            texts.write(f"{sentence.text}\n")
            for entity in sentence.entities:
                number += 1
                form = sentence.text[entity.start : entity.end]
                file.write(f"T{number}\t{entity.label} {offset + entity.start} {offset + entity.end}\t{form}\n")
            offset += len(sentence.text) + 1


BRAT = Format(
    "brat",
    "brat's .txt with .ann beside it: a sentence a line, entities by offsets",
    ".txt",
    lambda head: head.path.suffix == ".txt" and head.path.with_suffix(".ann").is_file(),
    read_brat,
    write_brat,
)
