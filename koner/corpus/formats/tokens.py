"""Tokens with tags: their scheme, what the tokens are, and how they are joined to a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from koner.corpus.characters import is_one_character
from koner.corpus.inline import parse_inline
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import SourceReport
from koner.corpus.tag_schemes import TagCensus
from koner.labels.bio import OUTSIDE

_PIECE = "##"
_MIN_LONGER_SHARE = 0.3
# Sentences that are kept between the recognition of the scheme and the reading, so that most files are parsed once.
_KEPT = 20_000

_is_one_character = lru_cache(maxsize=1 << 16)(is_one_character)


@dataclass
class _TokenCensus:
    """What the sentences of a file show about its tags and, if they have no text of their own, about its tokens."""

    tags: TagCensus = field(default_factory=TagCensus)
    tokens: int = 0
    longer: int = 0  # tokens of several characters
    has_spaces: bool = False
    has_pieces: bool = False

    @property
    def has_words(self) -> bool:
        """Return whether the tokens are words or pieces; a few of several characters among others are faults."""
        return self.longer > _MIN_LONGER_SHARE * self.tokens and not self.has_spaces

    def add(self, raw: RawSentence) -> None:
        if raw.fault or None in (raw.tokens or ()) or None in (raw.tags or ()):
            return
        tokens: Sequence[Any] = raw.tokens or ()
        self.tags.add(raw.tags or ())
        if raw.text is not None:
            return
        self.tokens += len(tokens)
        self.has_spaces = self.has_spaces or " " in tokens
        if len("".join(tokens)) > len(tokens) and not self.has_spaces:
            longer = [token for token in tokens if len(token) > 1 and not _is_one_character(token)]
            self.longer += len(longer)
            self.has_pieces = self.has_pieces or any(t.startswith(_PIECE) and len(t) > len(_PIECE) for t in longer)


def read_tokens(read: Callable[[], Iterator[RawSentence]], name: str, report: SourceReport) -> Iterator[RawSentence]:
    """Yield sentences of tokens with the scheme of their tags, and with their text if the tokens are not characters.

    Tokens of one character each are the characters of the text, spaces included. Others are words, which a space
    separates, or pieces, of which those that begin with `##` continue the word before them.

    Args:
        read: Yields the sentences of a file; it is called again for a large file, to recognise the scheme first.
        name: The name of the file.
        report: Where the scheme is noted.
    """
    census = _TokenCensus()
    kept: list[RawSentence] | None = []
    for raw in read():
        census.add(raw)
        if kept is not None:
            kept.append(raw)
            kept = None if len(kept) > _KEPT else kept
    try:
        scheme = census.tags.recognise()
    except ValueError as unknown:
        tagged = next(raw for raw in kept or read() if any(tag not in (OUTSIDE, None) for tag in raw.tags or ()))
        yield replace(tagged, fault=str(unknown))
        return
    report.add_scheme(name, scheme)
    for raw in read() if kept is None else kept:
        if raw.fault or (scheme.is_plain_bio and not census.has_words):
            yield raw
            continue
        text, annotated = raw.text, raw.annotated
        if text is None and census.has_words and None not in (raw.tokens or ()):
            text = join(raw.tokens or (), census.has_pieces) if annotated is None else parse_inline(annotated)[0]
            annotated = None
        yield replace(raw, scheme=scheme, text=text, annotated=annotated)


def join(tokens: Sequence[str], has_pieces: bool = False) -> str:
    """Return the text of words, or of pieces."""
    if not has_pieces:
        return " ".join(tokens)
    pieces = (t[len(_PIECE) :] if t.startswith(_PIECE) else f" {t}" for t in tokens)
    return "".join(pieces).removeprefix(" ")


def cut_at_entities(sentence: Sentence) -> Iterator[tuple[str, str, bool]]:
    """Yield the words of a sentence, cut where entities begin and end, with the tag and whether a space follows."""
    text, tags = sentence.text, sentence.tags
    bounds = {0, len(text), *(e.start for e in sentence.entities), *(e.end for e in sentence.entities)}
    bounds |= {i for i in range(1, len(text)) if text[i - 1].isspace() != text[i].isspace()}
    for start, end in pairwise(sorted(bounds)):
        if not text[start].isspace():
            yield text[start:end], tags[start], end < len(text) and text[end] == " "
