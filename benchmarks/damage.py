"""Annotation errors that are planted in a corpus, to measure whether an audit finds them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from koner.audit.particles import particle_after, without_particle
from koner.corpus.sentences import Sentence
from koner.labels.bio import Entity, entities_to_bio
from koner.labels.label_set import LabelSet

DROPPED, MOVED, RETYPED, INVENTED = "dropped", "moved", "retyped", "invented"
KINDS = (DROPPED, MOVED, RETYPED, INVENTED)
_WORD = re.compile(r"[가-힣A-Za-z]{2,}")


@dataclass(frozen=True)
class Planted:
    """A planted error: an entity of the corpus, and what became of it.

    Attributes:
        sentence: The index of the sentence.
        kind: One of `KINDS`.
        original: The entity of the corpus; None if it was invented.
        damaged: The entity that is there instead; None if it was dropped.
    """

    sentence: int
    kind: str
    original: Entity | None
    damaged: Entity | None


def damage(
    sentences: Sequence[Sentence], labels: LabelSet, share: float, seed: int
) -> tuple[list[Sentence], list[Planted]]:
    """Plant errors in a share of the entities, as many of each kind, at most one in an entity.

    `dropped`: the entity is not annotated. `moved`: its end is moved over the particle that follows it. `retyped`: it
    has another type, drawn at random. `invented`: letters within a word that belong to no entity have a type, both
    drawn at random.

    Returns:
        The sentences, in order, and the errors.
    """
    generator = random.Random(seed)  # noqa: S311
    entities = {i: list(sentence.entities) for i, sentence in enumerate(sentences)}
    places = [(i, entity) for i, sentence in enumerate(sentences) for entity in sentence.entities]
    count = round(share * len(places) / len(KINDS))
    generator.shuffle(places)
    planted: list[Planted] = []
    movable = [
        (i, e, particle) for i, e in places if (particle := particle_after(sentences[i].text, e.end)) is not None
    ]
    for i, entity, particle in movable[:count]:
        planted.append(Planted(i, MOVED, entity, replace(entity, end=entity.end + len(particle))))
    used = {(error.sentence, error.original) for error in planted}
    rest = [place for place in places if place not in used]
    planted += [Planted(i, DROPPED, entity, None) for i, entity in rest[:count]]
    for i, entity in rest[count : 2 * count]:
        other = generator.choice([type_ for type_ in labels.types if type_ != entity.label])
        planted.append(Planted(i, RETYPED, entity, replace(entity, label=other)))
    planted += _invent(sentences, labels, count, generator)
    for error in planted:
        if error.original:
            entities[error.sentence].remove(error.original)
        if error.damaged:
            entities[error.sentence].append(error.damaged)
    return [_annotated(sentence, entities[i]) for i, sentence in enumerate(sentences)], planted


def _invent(sentences: Sequence[Sentence], labels: LabelSet, count: int, generator: random.Random) -> list[Planted]:
    order = list(range(len(sentences)))
    generator.shuffle(order)
    invented: list[Planted] = []
    for i in order:
        if len(invented) == count:
            break
        text, entities = sentences[i].text, sentences[i].entities
        words = [match.span() for match in _WORD.finditer(text)]
        free = [(s, e) for s, e in words if not any(s < other.end and other.start < e for other in entities)]
        if free:
            start, end = generator.choice(free)
            # As an annotator would, without the particle.
            stems = [stem for stem in without_particle(text[start:end]) if len(stem) > 1]
            length = min(map(len, stems), default=end - start)
            invented.append(Planted(i, INVENTED, None, Entity(start, start + length, generator.choice(labels.types))))
    return invented


def _annotated(sentence: Sentence, entities: Sequence[Entity]) -> Sentence:
    ordered = tuple(sorted(entities))
    return replace(sentence, entities=ordered, tags=tuple(entities_to_bio(ordered, len(sentence.text))))


def repair(sentences: Sequence[Sentence], errors: Sequence[Planted]) -> list[Sentence]:
    """Return damaged sentences in which some of the planted errors are repaired."""
    entities = {error.sentence: list(sentences[error.sentence].entities) for error in errors}
    for error in errors:
        if error.damaged:
            entities[error.sentence].remove(error.damaged)
        if error.original:
            entities[error.sentence].append(error.original)
    return [_annotated(s, entities[i]) if i in entities else s for i, s in enumerate(sentences)]
