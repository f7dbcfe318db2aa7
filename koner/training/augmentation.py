"""Data augmentation: training sentences with other names, numbers and common nouns."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from koner.corpus.sentences import Sentence
from koner.labels.bio import Entity, entities_to_bio
from koner.text.morphemes import common_nouns
from koner.tokens.spans import Span
from koner.training.particles import agree_particle

# The endings of files with family names and given names, and the names of the files that belong to no type.
_FAMILY, _GIVEN = ".family", ".given"
_NOUNS, _NUMERIC = "_nouns", "_numeric"
_DIGITS = re.compile(r"\d+")
# The share of entities that keep their surface.
_KEEP_SHARE = 0.15
# The share of the other names that come from the lists, rather than from the training part.
_LIST_SHARE = 0.6
# The share of the other quantities and times with digits that get other digits.
_DIGITS_SHARE = 0.7
# The share of the common nouns outside entities that are replaced, so that a small model does not learn to label every
# word it has not seen as a name.
_NOUN_SHARE = 0.3


@dataclass(frozen=True)
class Names:
    """The surfaces that can replace an entity, by type, and the common nouns that can replace another.

    Attributes:
        training_surfaces: The surfaces of the entities of the training part, by type.
        lists: Lists of names, by type.
        family_names: Family names, which come before a given name, by type.
        given_names: Given names, by type.
        numeric_types: The types whose digits can be replaced by others.
        nouns: Common nouns.
    """

    training_surfaces: Mapping[str, Sequence[str]]
    lists: Mapping[str, Sequence[str]]
    family_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    given_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numeric_types: Collection[str] = ()
    nouns: Sequence[str] = ()

    def draw(self, label: str, surface: str, generator: random.Random) -> str:
        """Return a random surface for an entity: a name of its type, or the same quantity with other digits."""
        surfaces = self.training_surfaces[label]
        if generator.random() < _KEEP_SHARE:
            return surface
        if label not in self.lists:
            is_numeric = label in self.numeric_types and _DIGITS.search(surface)
            if is_numeric and generator.random() < _DIGITS_SHARE:
                return _DIGITS.sub(lambda digits: _random_digits(digits[0], generator), surface)
            return generator.choice(surfaces)
        if len(surface) == 1:
            # A surname or an abbreviation (김모 씨, A씨, 美) can only replace another of one character.
            return generator.choice([other for other in surfaces if len(other) == 1])
        if self.family_names.get(label) and generator.random() < _LIST_SHARE / 2:
            return generator.choice(self.family_names[label]) + generator.choice(self.given_names[label])
        if self.lists.get(label) and generator.random() < _LIST_SHARE:
            return generator.choice(self.lists[label])
        return generator.choice(surfaces)


def _random_digits(digits: str, generator: random.Random) -> str:
    first = generator.choice("123456789") if digits[0] != "0" else "0"
    return first + "".join(generator.choice("0123456789") for _ in digits[1:])


def read_names(folder: Path, training: Iterable[Sentence]) -> Names:
    """Return the surfaces of the training part and the lists of names in a folder.

    Args:
        folder: A folder of lists, one name a line: `TYPE.txt` for a type, `TYPE.family.txt` and `TYPE.given.txt` if
            its names have these two parts, `_numeric.txt` (types whose digits can be replaced) and `_nouns.txt`.
        training: The sentences of the training part.
    """
    surfaces: dict[str, list[str]] = {}
    for sentence in training:
        for entity in sentence.entities:
            surfaces.setdefault(entity.label, []).append(sentence.text[entity.start : entity.end])
    lists = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in sorted(folder.glob("*.txt"))}
    nouns, numeric = lists.pop(_NOUNS, []), lists.pop(_NUMERIC, [])
    parts = {
        ending: {name.removesuffix(ending): lists.pop(name) for name in list(lists) if name.endswith(ending)}
        for ending in (_FAMILY, _GIVEN)
    }
    return Names(surfaces, lists, parts[_FAMILY], parts[_GIVEN], frozenset(numeric), nouns)


def substitute_entities(
    sentence: Sentence, names: Names, generator: random.Random, copy: int, nouns: Sequence[Span] = ()
) -> Sentence:
    """Return a sentence with other entities in the same places; particles agree with the new surfaces.

    Args:
        sentence: The original sentence.
        names: The surfaces to draw from.
        generator: The source of random numbers.
        copy: The number of the copy, for the sentence's id.
        nouns: The spans of common nouns, in characters; some of those outside entities are replaced too.
    """
    text = ""
    position = 0
    entities: list[Entity] = []
    for start, end, label in _replaced_spans(sentence, names, generator, nouns):
        between = sentence.text[position:start]
        text += agree_particle(text[-1:], between) if position else between
        if label is None:
            text += generator.choice(names.nouns)
        else:
            surface = names.draw(label, sentence.text[start:end], generator)
            entities.append(Entity(len(text), len(text) + len(surface), label))
            text += surface
        position = end
    rest = sentence.text[position:]
    text += agree_particle(text[-1:], rest) if position else rest
    return Sentence(
        f"{sentence.id}+{copy}", text, sentence.source, tuple(entities_to_bio(entities, len(text))), tuple(entities)
    )


def _replaced_spans(
    sentence: Sentence, names: Names, generator: random.Random, nouns: Sequence[Span]
) -> list[tuple[int, int, str | None]]:
    """Return the spans to replace, in order, with the types of entities and None for common nouns."""
    spans: list[tuple[int, int, str | None]] = [(e.start, e.end, e.label) for e in sentence.entities]
    if names.nouns:
        spans += [
            (start, end, None)
            for start, end in nouns
            if not any(e.start < end and e.end > start for e in sentence.entities) and generator.random() < _NOUN_SHARE
        ]
    return sorted(spans, key=lambda span: span[0])


def augment_sentences(training: Iterable[Sentence], names: Names, copies: int, seed: int) -> Iterator[Sentence]:
    """Yield `copies` augmented versions of each training sentence that has something to replace, copy by copy.

    Args:
        training: The training sentences, which are iterated over once for every copy, and once before that.
        names: The surfaces to draw from.
        copies: The number of versions.
        seed: The seed of the random numbers.
    """
    generator = random.Random(seed)
    nouns = list(common_nouns(sentence.text for sentence in training)) if copies and names.nouns else None
    for copy in range(1, copies + 1):
        for i, sentence in enumerate(training):
            if sentence.entities or (nouns and nouns[i]):
                yield substitute_entities(sentence, names, generator, copy, nouns[i] if nouns else ())
