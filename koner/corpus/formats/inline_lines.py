"""Inline annotation, a sentence a line: `<서울:LC>에서`; also KMOU's lines that begin with `$` or `##`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from koner.corpus.characters import quote
from koner.corpus.formats.base import Format, ReadOptions
from koner.corpus.inline import parse_inline, write_inline_line
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import SourceReport
from koner.corpus.text_files import read_lines
from koner.storage.outputs import atomic_file

# Unlike in KLUE-NER, `<서울:O>` is a mark here, whose label is then a fault.
_MARK = re.compile(r"<([^<>]+):([^<>:\s]+)>")
# The signs of an annotated sentence, and of the same sentence without marks, which stands before it.
_KMOU = {"$": ";", "## ": "## "}
_SAMPLE_LINES = 1000


def read_inline_lines(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of a file.

    If marks are only in lines that begin with `$` (or `##`), these are the sentences, and the others, which hold the
    same sentence without marks and its morphemes, are not read. A reference such as `&lt;` is the character that it
    stands for, as `koner tag --format inline` writes it.
    """
    sign = _sign(islice(read_lines(path, options.encoding), _SAMPLE_LINES))
    plain = None
    for number, line in enumerate(read_lines(path, options.encoding), start=1):
        if not line.strip():
            continue
        if sign and not (line.startswith(sign) and (_MARK.search(line) or sign == "$")):
            plain = line.removeprefix(_KMOU[sign]) if line.startswith(_KMOU[sign]) else plain
            continue
        yield _parse(
            line.removeprefix(sign), plain, f"{path.name}:{number}", f"{path.stem}-line-{number}", options.report
        )
        plain = None


def _parse(line: str, plain: str | None, where: str, id_: str, report: SourceReport) -> RawSentence:
    text, entities = parse_inline(line, _MARK, html.unescape)
    if len(text) < len(_MARK.sub(r"\1", line)):
        report.add("unescaped_references", where, id_, "references such as &lt; are the characters they stand for")
    if plain is not None and plain.strip() != text.strip():
        fault = f"the line without marks reads {quote(plain)}, the one with marks {quote(text)}"
        return RawSentence(where, id_, fault=fault)
    return RawSentence(where, id_, text=text, entities=[RawEntity(e.start, e.end, e.label) for e in entities])


def write_inline_lines(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a line for each sentence; brackets and line ends of the text become references such as `&lt;`."""
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        for sentence in sentences:
            line = write_inline_line(sentence.text, sentence.entities)
            # Not one of the signs of KMOU's corpora.
            line = f"&#{ord(line[0])};{line[1:]}" if line[0] in "$#;" else line
            file.write(f"{line}\n")


def _sign(lines: Iterable[str]) -> str:
    """Return the sign with which all lines that have marks begin, if there are lines without marks, too; else ''."""
    lines = list(lines)
    marked = [line for line in lines if _MARK.search(line)]
    for sign, plain_sign in _KMOU.items():
        has_plain = any(line.startswith(plain_sign) and not _MARK.search(line) for line in lines)
        if marked and has_plain and all(line.startswith(sign) for line in marked):
            return sign
    return ""


INLINE = Format(
    "inline",
    "marks in the text, a sentence a line: <서울:LC>에서; also KMOU's lines that begin with $",
    ".txt",
    lambda head: any(map(_MARK.search, head.lines)),
    read_inline_lines,
    write_inline_lines,
)
