"""CoNLL's columns: a token a line, its tag in the last or a named column, a blank line between sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.formats.tokens import cut_at_entities, read_tokens
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.text_files import read_lines
from koner.errors import KonerError
from koner.storage.outputs import atomic_file

_TAG = re.compile(r"[O0]|[BIELMSU][-_]\S+|\S+[-_][BIELMSU]")
_OUTSIDE = re.compile(r"O|-|_")
# KMOU's corpora have columns below the annotated sentence.
_ANNOTATED = re.compile(r"(?:\$|## ).*<[^<>]+:[^<>:\s]+>")
_COMMENT = re.compile(r"#\s*([\w.]+)\s*=\s?(.*)")
_ID_NAMES = ("sent_id", "id")
_DOCUMENT = "-DOCSTART-"
_NO_SPACE = "SpaceAfter=No"
_TOKEN_NAMES = {"token", "tokens", "word", "form", "char", "character", "text", "음절", "어절", "형태소"}
_TAG_NAMES = {"tag", "tags", "ner", "ne", "ner_tag", "ne_tag", "label", "entity", "bio"}
_SAMPLE_LINES = 5000


@dataclass(frozen=True)
class _Layout:
    """The columns of a file: what separates them, how many, which hold the token, the tag and the space after it."""

    separator: str | None
    width: int
    token: int
    tag: int
    misc: int | None
    header: str | None

    def cells(self, line: str) -> list[str]:
        return line.split(self.separator)


def read_columns(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of a file in columns.

    Raises:
        KonerError: If no column holds the tags.
    """
    layout = _find_layout(path, options.encoding)
    if layout is None:
        return iter(())

    def read() -> Iterator[RawSentence]:
        for number, block in _blocks(path, options.encoding):
            raw = _parse_block(path, number, block, layout)
            if raw is not None:
                yield raw

    return read_tokens(read, path.name, options.report)


def write_columns(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write words, cut where entities begin and end, with their tags; comments hold the text and the id."""
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        file.write("# global.columns = FORM MISC NER\n")
        for sentence in sentences:
            if "\n" in sentence.text or "\r" in sentence.text:
                raise KonerError(f"{sentence.id}: the text has a line end, which columns cannot hold")
            file.write(f"# sent_id = {sentence.id}\n# text = {sentence.text}\n")
            for token, tag, has_space in cut_at_entities(sentence):
                file.write(f"{token}\t{'_' if has_space else _NO_SPACE}\t{tag}\n")
            file.write("\n")


def _matches(head: Head) -> bool:
    lines = [line for line in head.lines[:200] if not _is_comment(line)]
    if not lines or any(map(_ANNOTATED.match, head.lines)):
        return False
    layout = _layout_of(head.lines[:200])
    if layout is None or layout.width < 2:
        return False
    tags = [cells[layout.tag] for cells in map(layout.cells, lines) if len(cells) == layout.width]
    is_named = layout.header is not None or any("global.columns" in line for line in head.lines[:20])
    known = sum(1 for tag in tags if _TAG.fullmatch(tag))
    return len(tags) > len(lines) / 2 and (known > len(tags) / 2 or is_named or _are_bare(tags))


def _are_bare(tags: Sequence[str]) -> bool:
    """Return whether tags are names of types alone and a sign for outside, `PS PS O`, of which there are few."""
    outside = sum(1 for tag in tags if _OUTSIDE.fullmatch(tag))
    return outside > 0 and len(set(tags)) <= max(4, len(tags) / 2)


def _is_comment(line: str) -> bool:
    return line.startswith("#") and "\t" not in line and (_COMMENT.match(line) is not None or line.startswith("# id"))


def _find_layout(path: Path, encoding: str) -> _Layout | None:
    """Return the layout of a file, or None if it has no line."""
    sample = [line for line in islice(read_lines(path, encoding), _SAMPLE_LINES) if line.strip()]
    if not sample:
        return None
    layout = _layout_of(sample)
    if layout is None or layout.width < 2:
        raise KonerError(f"{path}:1: the lines have no columns; a line is a token and its tag, separated by a tab")
    return layout


def _layout_of(lines: Sequence[str]) -> _Layout | None:
    named = next(
        (m[2].split() for line in lines[:50] if (m := _COMMENT.match(line)) and m[1] == "global.columns"), None
    )
    lines = [line for line in lines if not _is_comment(line) and not line.startswith(_DOCUMENT)]
    if not lines:
        return None
    separator = "\t" if sum("\t" in line for line in lines) > len(lines) / 2 else None
    rows = [line.split(separator) for line in lines]
    width = Counter(map(len, rows)).most_common(1)[0][0]
    header = None
    names = [name.lower() for name in named] if named else [cell.strip().lower() for cell in rows[0]]
    if not named and (_TOKEN_NAMES.isdisjoint(names) or _TAG_NAMES.isdisjoint(names)):
        names = []
    elif not named:
        header, rows = lines[0], rows[1:]
    rows = [row for row in rows if len(row) == width]
    misc = next((i for i in range(width - 1, 0, -1) if any("SpaceAfter=" in row[i] for row in rows)), None)
    if len(names) == width and misc is None and "misc" in names:
        misc = names.index("misc")
    token = 1 if width > 2 and all(row[0].isdigit() for row in rows) else 0
    tag = width - 2 if misc == width - 1 else width - 1
    if len(names) == width:
        token = next((i for i, name in enumerate(names) if name in _TOKEN_NAMES), token)
        tag = next((i for i, name in enumerate(names) if name in _TAG_NAMES), tag)
    return _Layout(separator, width, token, tag, misc, header)


def _blocks(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the runs of lines between blank lines, each with the number of its first line."""
    block: list[str] = []
    number = 0
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def _parse_block(path: Path, number: int, block: list[str], layout: _Layout) -> RawSentence | None:
    """Return the sentence of a run of lines, or None if it is comments or the begin of a document only."""
    where, id_ = f"{path.name}:{number}", f"{path.stem}-line-{number}"
    text = None
    lines = []
    for line in block:
        if line[0] == "#" and _is_comment(line):
            if comment := _COMMENT.match(line):
                id_ = comment[2].strip() if comment[1] in _ID_NAMES else id_
                text = comment[2] if comment[1] == "text" else text
        elif line != layout.header and not (line[0] == "-" and line.startswith(_DOCUMENT)):
            lines.append(line)
    if not lines:
        return None
    rows = [line.split(layout.separator) for line in lines]
    if set(map(len, rows)) != {layout.width}:
        ragged = next(line for line, row in zip(lines, rows, strict=True) if len(row) != layout.width)
        place = number + block.index(ragged)
        width = len(layout.cells(ragged))
        return RawSentence(
            f"{path.name}:{place}", id_, fault=f"the line has {width} columns, others have {layout.width}"
        )
    columns = tuple(zip(*rows, strict=True))
    tokens, tags = columns[layout.token], columns[layout.tag]
    if "" in tokens or "" in tags:
        i = next(i for i in range(len(rows)) if not tokens[i] or not tags[i])
        fault = f"the tag '{tags[i]}' has no token" if tags[i] else f"the token '{tokens[i]}' has no tag"
        return RawSentence(f"{path.name}:{number + block.index(lines[i])}", id_, fault=fault)
    if text is None and layout.misc is not None:
        notes = columns[layout.misc]
        pieces = (token if _NO_SPACE in note else f"{token} " for token, note in zip(tokens, notes, strict=True))
        text = "".join(pieces).removesuffix(" ")
    return RawSentence(where, id_, tokens=tokens, tags=tags, text=text)


COLUMNS = Format(
    "conll",
    "CoNLL columns: a token a line, its tag in the last or named column, a blank line between sentences",
    ".conll",
    _matches,
    read_columns,
    write_columns,
)
