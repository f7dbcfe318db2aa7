"""More training sentences by putting other names, numbers and common nouns into written ones."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from koner.corpus import Sentence
from koner.labels import TYPES, Entity, tags_of
from koner.morphemes import common_nouns
from koner.particles import agree

Span = tuple[int, int]

_NAMED = ("LC", "OG", "PS")
# Lists of names that ship with the package: one a line, by type.
NAMES = Path(__file__).parent / "names"
_DIGITS = re.compile(r"\d+")
# Of the substituted names, the share drawn from lists rather than from the training part itself.
_LISTED_SHARE = 0.6
_KEEP_SHARE = 0.15
# Of the common nouns outside entities, the share that is exchanged: a small model takes what it never saw for a name.
_NOUN_SHARE = 0.3


@dataclass(frozen=True)
class Names:
    """What may stand in an entity's place, by type: surfaces of the training part, and lists of names."""

    seen: Mapping[str, Sequence[str]]
    listed: Mapping[str, Sequence[str]]
    family: Sequence[str] = ()
    given: Sequence[str] = ()
    nouns: Sequence[str] = ()

    def draw(self, label: str, surface: str, generator: random.Random) -> str:
        """Draws another surface for an entity: a name of its type, or the same quantity in other digits."""
        if generator.random() < _KEEP_SHARE:
            return surface
        if label not in _NAMED:
            if _DIGITS.search(surface) and generator.random() < 0.7:
                return _DIGITS.sub(lambda run: _other_digits(run[0], generator), surface)
            return generator.choice(self.seen[label])
        if len(surface) == 1:  # 김모 씨, A씨, 美: only another of its kind fits
            return generator.choice([seen for seen in self.seen[label] if len(seen) == 1])
        if label == "PS" and self.family and generator.random() < _LISTED_SHARE / 2:
            return generator.choice(self.family) + generator.choice(self.given)
        if self.listed.get(label) and generator.random() < _LISTED_SHARE:
            return generator.choice(self.listed[label])
        return generator.choice(self.seen[label])


def _other_digits(run: str, generator: random.Random) -> str:
    first = generator.choice("123456789") if run[0] != "0" else "0"
    return first + "".join(generator.choice("0123456789") for _ in run[1:])


def read_names(folder: Path, training: Iterable[Sentence]) -> Names:
    """Gathers the surfaces of the training part and the lists in `folder` (`PS.txt`, `family.txt` … where present)."""
    seen: dict[str, list[str]] = {type_: [] for type_ in TYPES}
    for sentence in training:
        for e in sentence.entities:
            seen[e.label].append(sentence.text[e.start : e.end])

    def lines(name: str) -> list[str]:
        path = folder / f"{name}.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []

    listed = {type_: lines(type_) for type_ in _NAMED}
    return Names(seen, listed, lines("family"), lines("given"), lines("nouns"))


def substitute(
    sentence: Sentence, names: Names, generator: random.Random, copy: int, nouns: Sequence[Span] = ()
) -> Sentence:
    """Writes a sentence anew with other entities in the same places, particles made to agree.

    `nouns` are spans of common nouns; of those outside entities some are exchanged too.
    """
    slots: list[tuple[int, int, str | None]] = [(e.start, e.end, e.label) for e in sentence.entities]
    if names.nouns:
        slots += [
            (start, end, None)
            for start, end in nouns
            if not any(e.start < end and e.end > start for e in sentence.entities) and generator.random() < _NOUN_SHARE
        ]
    text = ""
    position = 0
    entities: list[Entity] = []
    for start, end, label in sorted(slots, key=lambda slot: slot[0]):
        between = sentence.text[position:start]
        text += agree(text[-1:], between) if position else between
        if label is None:
            text += generator.choice(names.nouns)
        else:
            surface = names.draw(label, sentence.text[start:end], generator)
            entities.append(Entity(len(text), len(text) + len(surface), label))
            text += surface
        position = end
    rest = sentence.text[position:]
    text += agree(text[-1:], rest) if position else rest
    return Sentence(
        f"{sentence.id}+{copy}", text, sentence.source, tuple(tags_of(entities, len(text))), tuple(entities)
    )


def augmented(training: Iterable[Sentence], names: Names, copies: int, seed: int) -> Iterator[Sentence]:
    """Makes `copies` substituted sentences of each training sentence, without the originals.

    The training sentences are gone through once for each copy, and once before.
    """
    generator = random.Random(seed)
    nouns = list(common_nouns(sentence.text for sentence in training)) if copies and names.nouns else None
    for copy in range(1, copies + 1):
        for i, sentence in enumerate(training):
            if sentence.entities or (nouns and nouns[i]):
                yield substitute(sentence, names, generator, copy, nouns[i] if nouns else ())
