"""Checks of an annotated corpus that need no model: they compare the annotation with itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from koner.audit.candidates import Candidate
from koner.audit.particles import particle_after, without_particle
from koner.corpus.characters import quote
from koner.corpus.sentences import Sentence
from koner.labels.bio import Entity

# By surface, the number of entities of each type.
Surfaces = dict[str, Counter[str]]

_BRACKETS = {")": "(", "]": "[", "}": "{", ">": "<", "」": "「", "』": "『", "》": "《", "〉": "〈", "”": "“", "’": "‘"}
_OPENING = set(_BRACKETS.values())
# An apostrophe is this closing mark, too.
_MAY_BE_ALONE = "’"
# Of a surface that is compared with other places, in characters; a single character is too often another word.
_SHORTEST = 2
_LONGEST = 20


def run_checks(sentences: Sequence[Sentence]) -> list[Candidate]:
    """Return the candidates of all checks, the most certain of each check first.

    - `surface`: the same surface has another type in most places. The score is the share of its most frequent type
      among all its entities and one more, so that few examples give a low score.
    - `unmarked`: a surface that is annotated elsewhere is not annotated as a word here. The score is the share of the
      places in which it is annotated, among all its places and one more.
    - `particle`: the same name is annotated with and without a particle. The score is as for `surface`.
    - `twice`: the same text is there with another annotation. The score is the share of the other one.
    - `bracket`: an entity contains one of a pair of brackets only. The score is 1.

    Args:
        sentences: The sentences of a corpus.
    """
    surfaces: Surfaces = defaultdict(Counter)
    for sentence in sentences:
        for entity in sentence.entities:
            surfaces[_surface(sentence, entity)][entity.label] += 1
    found = [
        *_find_other_types(sentences, surfaces),
        *_find_unmarked(sentences, surfaces),
        *_find_particles(sentences, surfaces),
        *_find_twice(sentences),
        *_find_brackets(sentences),
    ]
    return sorted(found, key=lambda candidate: -candidate.score)


def trimmed_candidates(changes: Iterable[dict[str, str]], texts: dict[str, str]) -> list[Candidate]:
    """Return the candidates of the check `white space`: entities that began or ended with it in the source.

    Args:
        changes: The changes that were made while the source was read, with `change`, `id` and `detail`.
        texts: The text of each sentence by its id; changes of other sentences are left out.
    """
    return [
        Candidate(row["id"], texts[row["id"]], "white space", None, None, 1.0, row["detail"])
        for row in changes
        if row["change"] == "trimmed" and row["id"] in texts
    ]


def _surface(sentence: Sentence, entity: Entity) -> str:
    return sentence.text[entity.start : entity.end]


def _find_other_types(sentences: Iterable[Sentence], surfaces: Surfaces) -> Iterator[Candidate]:
    for sentence in sentences:
        for entity in sentence.entities:
            types = surfaces[_surface(sentence, entity)]
            (label, count), *_ = types.most_common(1)
            if label != entity.label and count > types[entity.label]:
                note = f"{label} in {count} of {types.total()} places"
                suggested = replace(entity, label=label)
                yield Candidate(
                    sentence.id, sentence.text, "surface", entity, suggested, count / (types.total() + 1), note
                )


def _find_unmarked(sentences: Sequence[Sentence], surfaces: Surfaces) -> Iterator[Candidate]:
    places = [(s, span) for s in sentences for span in _unmarked_spans(s, surfaces)]
    unmarked = Counter(s.text[start:end] for s, (start, end) in places)
    for sentence, (start, end) in places:
        surface = sentence.text[start:end]
        marked = surfaces[surface].total()
        label = surfaces[surface].most_common(1)[0][0]
        total = marked + unmarked[surface]
        # What is rarely a name is a common noun that is one in places.
        if 2 * marked > total:
            note = f"annotated in {marked} of {total} places"
            suggested = Entity(start, end, label)
            yield Candidate(sentence.id, sentence.text, "unmarked", None, suggested, marked / (total + 1), note)


def _unmarked_spans(sentence: Sentence, surfaces: Surfaces) -> Iterator[tuple[int, int]]:
    """Yield the spans of words, with or without a particle after them, whose surface is annotated elsewhere."""
    text = sentence.text
    inside = {i for entity in sentence.entities for i in range(entity.start, entity.end)}
    for start in range(len(text)):
        if not text[start].isalnum() or (start and text[start - 1].isalnum()):
            continue
        # The longest surface only.
        for end in range(min(len(text), start + _LONGEST), start + _SHORTEST - 1, -1):
            ends_word = end == len(text) or not text[end].isalnum() or particle_after(text, end) is not None
            if ends_word and text[start:end] in surfaces:
                if inside.isdisjoint(range(start, end)):
                    yield start, end
                break


def _find_particles(sentences: Iterable[Sentence], surfaces: Surfaces) -> Iterator[Candidate]:
    for sentence in sentences:
        for entity in sentence.entities:
            surface = _surface(sentence, entity)
            own = surfaces[surface][entity.label]
            stems = [
                stem
                for stem in without_particle(surface)
                if len(stem) >= _SHORTEST and stem in surfaces and surfaces[stem][entity.label] > own
            ]
            if stems:
                stem = max(stems, key=lambda s: surfaces[s][entity.label])
                others = surfaces[stem][entity.label]
                note = f"{quote(stem)} in {others} places, {quote(surface)} in {own}"
                suggested = replace(entity, end=entity.start + len(stem))
                score = others / (others + own + 1)
                yield Candidate(sentence.id, sentence.text, "particle", entity, suggested, score, note)


def _find_twice(sentences: Iterable[Sentence]) -> Iterator[Candidate]:
    by_text: defaultdict[str, list[Sentence]] = defaultdict(list)
    for sentence in sentences:
        by_text[sentence.text].append(sentence)
    for same in by_text.values():
        annotations = Counter(frozenset(sentence.entities) for sentence in same)
        if len(annotations) < 2:
            continue
        for sentence in same:
            own = frozenset(sentence.entities)
            other = max((a for a in annotations if a != own), key=lambda a: annotations[a])
            if annotations[other] < annotations[own]:
                continue
            twin = next(s for s in same if frozenset(s.entities) == other)
            for annotated, suggested in _align(sorted(own - other), sorted(other - own)):
                share = annotations[other] / len(same)
                note = f"as in {twin.id}"
                yield Candidate(sentence.id, sentence.text, "twice", annotated, suggested, share, note)


def _align(own: Sequence[Entity], other: Sequence[Entity]) -> Iterator[tuple[Entity | None, Entity | None]]:
    """Yield pairs of the entities of two annotations that overlap, and the others alone."""
    left = list(other)
    for entity in own:
        partner = next((o for o in left if o.start < entity.end and entity.start < o.end), None)
        if partner:
            left.remove(partner)
        yield entity, partner
    yield from ((None, entity) for entity in left)


def _find_brackets(sentences: Iterable[Sentence]) -> Iterator[Candidate]:
    for sentence in sentences:
        for entity in sentence.entities:
            surface = _surface(sentence, entity)
            if unpaired := _unpaired(surface):
                suggested = _stripped(entity, surface, unpaired)
                note = f"{surface[unpaired[0]]} has no partner in {quote(surface)}"
                yield Candidate(sentence.id, sentence.text, "bracket", entity, suggested, 1.0, note)


def _unpaired(surface: str) -> list[int]:
    """Return the positions of the brackets of a surface that have no partner in it."""
    unpaired: list[int] = []
    open_: list[int] = []
    for i, character in enumerate(surface):
        if character in _OPENING:
            open_.append(i)
        elif character in _BRACKETS:
            if open_ and surface[open_[-1]] == _BRACKETS[character]:
                open_.pop()
            elif character not in _MAY_BE_ALONE:
                unpaired.append(i)
    return sorted([*unpaired, *open_])


def _stripped(entity: Entity, surface: str, unpaired: Sequence[int]) -> Entity | None:
    """Return an entity up to its first or from its last unpaired bracket, whichever leaves more; None if nothing."""
    before, after = surface[: unpaired[0]], surface[unpaired[-1] + 1 :]
    if len(before.strip()) >= len(after.strip()):
        start, kept = entity.start, before
    else:
        start, kept = entity.end - len(after), after
    start += len(kept) - len(kept.lstrip())
    return replace(entity, start=start, end=start + len(kept.strip())) if kept.strip() else None
