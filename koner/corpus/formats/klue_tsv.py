"""KLUE's own file format: a line `## guid<TAB>annotated`, then lines `CHARACTER<TAB>TAG`, then a blank line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.inline import write_inline
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.text_files import CHUNK, read_chunks, split_lines
from koner.errors import KonerError
from koner.storage.outputs import atomic_file

_DEFAULT = ReadOptions()

_HEAD = re.compile(r"^## (\S+)\t(.*)$")
# The first column of KLUE's line that names the columns.
_COLUMN_NAMES = "컬럼명"
_BODY = re.compile(r"[^\t\n]\t[^\t\n]*+(?:\n[^\t\n]\t[^\t\n]*+)*+")
_GUID_SOURCE = re.compile(r"-([a-z]+)$")


def read_tsv(path: Path, options: ReadOptions = _DEFAULT) -> Iterator[RawSentence]:
    """Yield the sentences of a TSV file.

    Raises:
        KonerError: If the file does not exist or is not in the encoding.
    """
    reader = _LineReader(path)
    number, rest = 1, ""
    for text in read_chunks(path, options.encoding):
        *blocks, rest = (rest + text).split("\n\n")
        for block in blocks:
            # In a file without blank lines, a block may begin in the middle of a sentence.
            regular = None if reader.where else _parse_regular_block(block, f"{path.name}:{number}")
            yield from [regular] if regular else reader.add(number, f"{block}\n\n")
            number += block.count("\n") + 2
        if len(rest) > CHUNK:
            yield from reader.add(number, rest)
            number, rest = number + rest.count("\n"), ""
    yield from reader.add(number, rest)
    yield from reader.end_sentence()


def _parse_regular_block(block: str, where: str) -> RawSentence | None:
    """Return the sentence of a block with a head and one tab per line; None if the block has another form.

    Nearly all blocks are regular, and this is several times faster than reading line by line.
    """
    head, _, body = block.partition("\n")
    match = _HEAD.match(head)
    if not match or match[1] == _COLUMN_NAMES or not _BODY.fullmatch(body):
        return None
    cells = body.replace("\n", "\t").split("\t")
    return RawSentence(where, match[1], _genre(match[1]), cells[::2], cells[1::2], match[2])


@dataclass
class _LineReader:
    """Reads a TSV file line by line and keeps the current sentence; `where` is None between two sentences."""

    path: Path
    where: str | None = None
    id: str = ""
    annotated: str | None = None
    tokens: list[str] = field(default_factory=list)
    tags: list[str | None] = field(default_factory=list)

    def add(self, number: int, text: str) -> Iterator[RawSentence]:
        """Read complete lines, the first of which has the given number; yield the sentences that end in them."""
        for line_number, line in enumerate(split_lines(text), start=number):
            head = _HEAD.match(line)
            is_column_names = head is not None and head[1] == _COLUMN_NAMES
            if not line or (head and not is_column_names):
                yield from self.end_sentence()
            if not line:
                continue
            if head and not is_column_names:
                self.where, self.id, self.annotated = f"{self.path.name}:{line_number}", head[1], head[2]
            elif self.where is not None or not line.startswith("##"):
                if self.where is None:
                    self.where, self.id = f"{self.path.name}:{line_number}", f"{self.path.stem}-line-{line_number}"
                character, tab, tag = line.rpartition("\t")
                self.tokens.append(character if tab else line)
                self.tags.append(tag if tab else None)

    def end_sentence(self) -> Iterator[RawSentence]:
        """Yield the current sentence, if there is one, and reset the fields for the next."""
        if self.where is not None:
            yield RawSentence(self.where, self.id, _genre(self.id), self.tokens, self.tags, self.annotated)
        self.where, self.id, self.annotated, self.tokens, self.tags = None, "", None, [], []


def _genre(guid: str) -> str | None:
    match = _GUID_SOURCE.search(guid)
    return match[1] if match else None


def write_tsv(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write sentences with a head line and a line for each character.

    Raises:
        KonerError: If a text has a line end or a tab, or an id has white space.
    """
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        for sentence in sentences:
            if not set("\n\r\t").isdisjoint(sentence.text):
                raise KonerError(f"{sentence.id}: the text has a line end or a tab, which KLUE's TSV cannot hold")
            if len(sentence.id.split()) != 1 or sentence.id == _COLUMN_NAMES:
                raise KonerError(f"{sentence.id}: the id has white space, which KLUE's TSV cannot hold")
            file.write(f"## {sentence.id}\t{write_inline(sentence.text, sentence.entities)}\n")
            pairs = zip(sentence.text, sentence.tags, strict=True)
            file.write("".join(f"{character}\t{tag}\n" for character, tag in pairs) + "\n")


def _matches(head: Head) -> bool:
    return any(_HEAD.match(line) or line.startswith(f"## {_COLUMN_NAMES}") for line in head.lines)


KLUE_TSV = Format(
    "klue",
    "KLUE's TSV: a line with the id and the annotated sentence, then a character and its BIO tag a line",
    ".tsv",
    _matches,
    read_tsv,
    write_tsv,
)
