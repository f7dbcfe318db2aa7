"""A sentence a line: its words, a tab, and a tag for each word, as in the data of Naver's challenge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from koner.corpus.characters import quote
from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.formats.tokens import read_tokens
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.text_files import read_lines
from koner.errors import KonerError
from koner.storage.outputs import atomic_file


def read_tagged_lines(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the sentences of a file of words and tags."""

    def read() -> Iterator[RawSentence]:
        for number, line in enumerate(read_lines(path, options.encoding), start=1):
            if line.strip():
                yield _parse(line, f"{path.name}:{number}", f"{path.stem}-line-{number}")

    return read_tokens(read, path.name, options.report)


def write_tagged_lines(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write the words and tags of each sentence.

    Raises:
        KonerError: If an entity begins or ends inside a word, or if the text has other white space than single spaces.
    """
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        for sentence in sentences:
            words = sentence.text.split()
            if " ".join(words) != sentence.text:
                raise KonerError(f"{sentence.id}: the text has other white space than single spaces between words")
            tags, position = [], 0
            for word in words:
                tags.append(sentence.tags[position])
                position += len(word) + 1
            edges = {0, len(sentence.text) + 1, *(i + 1 for i, c in enumerate(sentence.text) if c == " ")}
            for entity in sentence.entities:
                if entity.start not in edges or entity.end + 1 not in edges:
                    form = quote(sentence.text[entity.start : entity.end])
                    raise KonerError(f"{sentence.id}: the entity {form} begins or ends inside a word")
            file.write(f"{sentence.text}\t{' '.join(tags)}\n")


def _parse(line: str, where: str, id_: str) -> RawSentence:
    sentence, tab, tag_list = line.rpartition("\t")
    if not tab:
        return RawSentence(where, id_, fault="the line has no tab; it is the words, a tab and their tags")
    words, tags = sentence.split(), tag_list.split()
    if len(words) != len(tags):
        return RawSentence(where, id_, fault=f"{len(tags)} tags for {len(words)} words")
    return RawSentence(where, id_, tokens=words, tags=tags, text=sentence)


def _matches(head: Head) -> bool:
    pairs = [line.rpartition("\t") for line in head.lines[:200]]
    counts = [(len(words.split()), len(tags.split())) for words, tab, tags in pairs if tab]
    equal = [a for a, b in counts if a == b]
    return len(equal) > len(pairs) / 2 and max(equal) > 1


TAGGED_LINES = Format(
    "lines",
    "a sentence a line: its words, a tab, and a tag for each word",
    ".tsv",
    _matches,
    read_tagged_lines,
    write_tagged_lines,
)
