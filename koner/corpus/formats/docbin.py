"""spaCy's binary files, `.spacy`; needs spaCy."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.formats.tokens import cut_at_entities
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.sentences import Sentence
from koner.errors import KonerError, first_line
from koner.storage.outputs import atomic_file

_DEFLATE = b"\x78"


def read_docbin(path: Path, options: ReadOptions) -> Iterator[RawSentence]:
    """Yield the documents of a file, with their entities, or with the spans of all groups if they have no entities.

    Raises:
        KonerError: If the file is not one of spaCy's.
    """
    import spacy
    from spacy.tokens import DocBin

    try:
        documents = DocBin().from_disk(path)
    except Exception as error:
        raise KonerError(f"{path} can't be read by spaCy: {first_line(error)}") from None
    for number, document in enumerate(documents.get_docs(spacy.blank("xx").vocab), start=1):
        spans = list(document.ents) or [span for group in document.spans.values() for span in group]
        entities = [RawEntity(s.start_char, s.end_char, s.label_, s.text) for s in spans]
        yield RawSentence(
            f"{path.name}, document {number}", f"{path.stem}-{number}", text=document.text, entities=entities
        )


def write_docbin(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a document for each sentence; its tokens are words, cut where entities begin and end."""
    import spacy
    from spacy.tokens import Doc, DocBin

    vocabulary = spacy.blank("xx").vocab
    documents = DocBin()
    for sentence in sentences:
        words, spaces = _tokenize(sentence)
        document = Doc(vocabulary, words=words, spaces=spaces)
        spans = (document.char_span(e.start, e.end, e.label) for e in sentence.entities)
        document.set_ents([span for span in spans if span])
        documents.add(document)
    with atomic_file(path) as draft:
        documents.to_disk(draft)


def _tokenize(sentence: Sentence) -> tuple[list[str], list[bool]]:
    """Return tokens and whether a space follows each; other white space is a token of its own."""
    words: list[str] = []
    spaces: list[bool] = []
    position = 0
    for word, _, has_space in cut_at_entities(sentence):
        start = sentence.text.index(word, position)
        if start > position:
            words.append(sentence.text[position:start])
            spaces.append(False)
        words.append(word)
        spaces.append(has_space)
        position = start + len(word) + has_space
    if position < len(sentence.text):
        words.append(sentence.text[position:])
        spaces.append(False)
    return words, spaces


def _matches(head: Head) -> bool:
    if not head.content.startswith(_DEFLATE):
        return False
    try:
        return b"attrs" in zlib.decompressobj().decompress(head.content, 4096)
    except zlib.error:
        return False


DOCBIN = Format("spacy", "spaCy's binary .spacy files (needs spaCy)", ".spacy", _matches, read_docbin, write_docbin)
