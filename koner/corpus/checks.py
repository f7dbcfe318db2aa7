"""Checks that turn the raw sentences of a source into sentences of the corpus."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache

from koner.corpus.characters import first_difference, is_one_character, quote
from koner.corpus.inline import parse_inline, write_inline
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import Rules, SourceReport
from koner.corpus.spans import resolve_spans, trim
from koner.corpus.tag_schemes import TagScheme
from koner.errors import KonerError
from koner.labels.bio import (
    Entity,
    bio_to_entities,
    entities_to_bio,
    first_illegal_tag,
)
from koner.labels.label_set import why_not_a_label, why_not_a_tag
from koner.text.normalization import compose

MAX_FAULTS_SHOWN = 20
_LONGEST_ID = 100
_STRICT = Rules()
# A corpus has few tags, and each sentence is checked.
_why_not_a_tag = lru_cache(maxsize=10_000)(why_not_a_tag)


@dataclass
class FaultReport:
    """The faults of a source, collected over all of it."""

    shown: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, id_: str, problem: str) -> None:
        """Add a fault; only the first ones keep their text."""
        self.count += 1
        if len(self.shown) < MAX_FAULTS_SHOWN:
            if len(id_) > _LONGEST_ID or not id_.isprintable():
                id_ = quote(id_)
            self.shown.append(f"{where}: {id_}: {problem}" if id_ else f"{where}: {problem}")

    def raise_if_any(self) -> None:
        """Raise one error that shows the first faults and counts all.

        Raises:
            KonerError: If there is a fault.
        """
        if self.count == 0:
            return
        if self.count == 1:
            raise KonerError(self.shown[0])
        more = f"\n  … and {self.count - len(self.shown)} more" if self.count > len(self.shown) else ""
        raise KonerError(f"{self.count} faults in the source:\n  " + "\n  ".join(self.shown) + more)


def check(raw: RawSentence, rules: Rules = _STRICT, report: SourceReport | None = None) -> Sentence:
    """Check a raw sentence and convert its text to NFC.

    Args:
        raw: The sentence.
        rules: What to do with overlapping entities and illegal tags.
        report: Where changes are counted.

    Raises:
        ValueError: If characters and tags differ in number, a token is not one character, a tag is none, the tags
            break their scheme, the annotated sentence contradicts the characters or tags, offsets are not within the
            text or contradict the texts of their entities, the text is blank, or an entity begins or ends inside a
            composed character.
    """
    text, tags, entities = _reconcile(raw, rules, report or SourceReport())
    if not text.strip():
        raise ValueError("the sentence is empty")
    composed = compose(text)
    if composed.spans is not None:
        spans = composed.spans
        inner_offsets = {offset for start, end in spans for offset in range(start + 1, end)}
        for entity in entities:
            if entity.start in inner_offsets or entity.end in inner_offsets:
                raise ValueError(
                    f"the entity {quote(text[entity.start : entity.end])} begins or ends inside a composed character"
                )
        first_tags = [tags[start] for start, _ in spans]
        # Code points of one run share their start, so only the first of them may keep a B tag.
        tags = [
            f"I{tag[1:]}" if tag[0] == "B" and i and spans[i] == spans[i - 1] else tag
            for i, tag in enumerate(first_tags)
        ]
        entities = bio_to_entities(tags)
    return Sentence(raw.id, composed.text, raw.source, tuple(tags), tuple(entities))


def check_all(
    raw_sentences: Iterable[RawSentence],
    faults: FaultReport,
    rules: Rules = _STRICT,
    report: SourceReport | None = None,
) -> Iterator[Sentence]:
    """Yield the valid sentences and add the faults of the others to `faults`; a repeated id is a fault."""
    with closing(_IdIndex()) as ids:
        for raw in raw_sentences:
            try:
                if raw.fault:
                    raise ValueError(raw.fault)
                if not raw.id:
                    raise ValueError("it has no id")
                if first_place := ids.first_place(raw.id, raw.where):
                    raise ValueError(f"the id is used already at {first_place}")
                yield check(raw, rules, report)
            except ValueError as fault:
                faults.add(raw.where, raw.id, str(fault))


def _reconcile(raw: RawSentence, rules: Rules, report: SourceReport) -> tuple[str, list[str], list[Entity]]:
    """Return text, tags and entities of a raw sentence, from whichever forms it has."""
    if raw.entities is not None:
        text, entities = resolve_spans(raw, rules, report)
        return text, entities_to_bio(entities, len(text)), entities
    if raw.tokens is None or raw.tags is None:
        if raw.annotated is None:
            raise ValueError("neither characters with tags nor an annotated sentence")
        text, entities = parse_inline(raw.annotated)
        bracket = re.search(r"<[^<>]*:[^<>]*>|[<>]", text)
        if bracket:
            raise ValueError(f"{quote(bracket[0])} is not a mark of an entity, such as <서울:LC>")
        for label in {entity.label for entity in entities}:
            if reason := why_not_a_label(label):
                raise ValueError(f"the label {quote(label)} {reason}")
        return _trimmed(text, entities_to_bio(entities, len(text)), entities, raw, report)
    token_tags = _check_tags(raw, rules, report)
    if raw.text is None:
        characters, tags = _split_into_code_points(raw.tokens, token_tags)
        text = "".join(characters)
        entities = bio_to_entities(tags)
    else:
        text, spans = raw.text, find_tokens(raw.tokens, raw.text)
        entities = [Entity(spans[e.start][0], spans[e.end - 1][1], e.label) for e in bio_to_entities(token_tags)]
        tags = entities_to_bio(entities, len(text))
    if raw.annotated is not None:
        _check_annotation(raw.annotated, text, entities)
    return _trimmed(text, tags, entities, raw, report)


def _trimmed(
    text: str, tags: list[str], entities: list[Entity], raw: RawSentence, report: SourceReport
) -> tuple[str, list[str], list[Entity]]:
    kept = trim(text, entities, raw, report)
    return (text, tags, entities) if kept is entities else (text, entities_to_bio(kept, len(text)), kept)


def _check_annotation(annotated: str, text: str, entities: Sequence[Entity]) -> None:
    """Raise ValueError if an annotated sentence is neither the text with its entities nor the text alone."""
    # Compare the written form: a bracket inside a name (`<<10:QT>>점` in KLUE-NER) can be parsed in two ways.
    written = write_inline(text, entities)
    if annotated in (written, text):
        return
    # The code points of the two may differ, and the characters be the same.
    annotated, written, text = (compose(form).text for form in (annotated, written, text))
    if annotated in (written, text):
        return
    annotated_text = parse_inline(annotated)[0]
    if annotated_text != text:
        position = first_difference(annotated_text, text)
        raise ValueError(
            f"the annotated sentence reads {quote(annotated_text, position)} but its characters spell "
            f"{quote(text, position)}; they differ at character {position + 1}"
        )
    raise ValueError("the annotated sentence and the tags disagree on the entities")


def _check_tags(raw: RawSentence, rules: Rules, report: SourceReport) -> list[str]:
    """Return the BIO tags of the tokens.

    Raises:
        ValueError: For the first token that is not text (or not one character, if they spell the text), unknown tag,
            or tag that the scheme does not allow.
    """
    tokens, tags, unit = raw.tokens or (), raw.tags or (), "character" if raw.text is None else "token"
    if len(tags) != len(tokens):
        raise ValueError(f"{len(tags)} tags for {len(tokens)} {unit}s")
    is_bio = raw.scheme is None or raw.scheme.is_plain_bio
    has_null = None in tokens or None in tags
    # A short cut: nearly all sentences have words, or single code points, and tags of the scheme.
    is_regular = (
        is_bio
        and not has_null
        and (raw.text is not None or set(map(len, tokens)) == {1})
        and not any(map(_why_not_a_tag, set(tags)))
    )
    for i, (token, tag) in enumerate(() if is_regular else zip(tokens, tags, strict=True), start=1):
        if token is None:
            raise ValueError(f"token {i} is null")
        if tag is None:
            raise ValueError(f"{unit} {i} {quote(token)} has no tag")
        if raw.text is None and len(token) != 1 and not is_one_character(token):
            raise ValueError(f"token {i} is {quote(token)}, not one character")
        if is_bio and (reason := _why_not_a_tag(tag)):
            hint = "; write the letter O, not a zero" if tag == "0" else ""
            raise ValueError(f"the tag {quote(tag)} on {unit} {i} {quote(token)} {reason}{hint}")
    if is_bio and first_illegal_tag(tags) is None:
        return list(tags)
    bio, illegal = (raw.scheme or TagScheme()).to_bio(tags)
    if reason := next(filter(None, map(_why_not_a_tag, bio)), None):
        raise ValueError(f"a tag {reason}")
    for i in illegal:
        place = f"tag '{tags[i]}' on {unit} {i + 1} {quote(tokens[i])}"
        if rules.illegal_bio == "error":
            problem = "continues no entity of its type" if is_bio else f"is not allowed there in {raw.scheme}"
            raise ValueError(f"{place} {problem}")
        report.add("repaired_tags", raw.where, raw.id, f"{place} is read as '{bio[i]}'")
    return bio


def find_tokens(tokens: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Return the span of each token in a text, in code points; only white space may be between them.

    A token that begins with `##` continues the word before it; the two signs are not part of the text.

    Raises:
        ValueError: If a token is not where the text goes on, or is empty.
    """
    spans: list[tuple[int, int]] = []
    position = 0
    for i, token in enumerate(tokens, start=1):
        start, length = position, len(token)
        if not text.startswith(token, start):
            # A short cut: one space is between most words.
            start += 1
            if text[position:start] != " " or not text.startswith(token, start):
                start, length = _find_token(token, i, text, position)
        if not length:
            raise ValueError(f"token {i} is empty")
        position = start + length
        spans.append((start, position))
    rest = text[position:]
    if rest and not rest.isspace():
        raise ValueError(f"the tokens end before the text does, at {quote(rest[:20])}")
    return spans


def _find_token(token: str, number: int, text: str, position: int) -> tuple[int, int]:
    """Return where a token begins in the text, after white space, and its length without the `##` of a piece."""
    end = position
    while end < len(text) and text[end].isspace():
        end += 1
    if text.startswith(token, end):
        return end, len(token)
    if token.startswith("##") and text.startswith(token[2:], position):
        return position, len(token) - 2
    raise ValueError(f"token {number} {quote(token)} is not where the text goes on: {quote(text, position)}")


def _split_into_code_points(tokens: Sequence[str], tags: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """Split characters of several code points; only the first of them keeps a B tag."""
    if len(tokens) == sum(map(len, tokens)):
        return tokens, list(tags)
    pairs = zip(tokens, tags, strict=True)
    split_tags = [f"I{tag[1:]}" if i and tag[0] == "B" else tag for token, tag in pairs for i in range(len(token))]
    return "".join(tokens), split_tags


class _IdIndex:
    """The first place of each id, on disk if they are many, so that memory does not grow with the corpus."""

    def __init__(self) -> None:
        # An empty name is a temporary database of SQLite, which goes to disk only when the cache is full.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def first_place(self, id_: str, where: str) -> str | None:
        """Return the first place of an id, or None if it is new; then its place is `where`."""
        if self._database.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", (str(id_), where)).rowcount:
            return None
        return str(self._database.execute("SELECT place FROM ids WHERE id = ?", (str(id_),)).fetchone()[0])

    def close(self) -> None:
        """Delete the index."""
        self._database.close()
