"""How well two annotations of the same texts agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import cohen_kappa_score

from koner.annotation.pairs import pair_annotations
from koner.corpus.sentences import Sentence
from koner.evaluation.bootstrap import Counts, Interval, interval, micro_f1
from koner.evaluation.counts import count_entities
from koner.evaluation.error_kinds import SpanError, find_errors
from koner.inference.decoding import ScoredEntity
from koner.labels.bio import OUTSIDE, Entity, tag_type
from koner.labels.label_set import LabelSet


@dataclass(frozen=True, slots=True)
class Pair:
    """The two annotations of a text; both texts are equal in NFC."""

    a: Sentence
    b: Sentence

    @property
    def differs(self) -> bool:
        """Whether the annotations differ."""
        return set(self.a.entities) != set(self.b.entities)

    def differences(self) -> list[SpanError]:
        """Return the entities that differ, aligned as in the evaluation; A is on the side of the gold entities."""
        entities = (ScoredEntity(e.start, e.end, e.label, 1.0) for e in self.b.entities)
        return find_errors(pair_annotations(self.a.id, self.a.text, self.a.entities, entities))


@dataclass(frozen=True)
class Matching:
    """The texts of two sources.

    Attributes:
        pairs: The texts that are in both, in the order of A.
        only_a: The number of sentences that only A has.
        only_b: The number of sentences that only B has.
    """

    pairs: list[Pair]
    only_a: int
    only_b: int


@dataclass(frozen=True)
class TypeAgreement:
    """The agreement on one type.

    Attributes:
        a: The number of entities in A.
        b: The number of entities in B.
        both: The number of entities that are equal in both.
        f1: The F1 of exact spans, with its interval.
        kappa: Cohen's kappa of the question whether a character belongs to an entity of the type; None if it is not
            defined, because no character or every character does in both.
    """

    a: int
    b: int
    both: int
    f1: Interval
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """The agreement of two annotations.

    Attributes:
        sentences: The number of texts in both.
        equal: The number of texts whose annotations are equal.
        f1: The F1 of exact spans and types, with its interval; it is the same whichever side counts as gold.
        kappa: Cohen's kappa of the types of characters; None if it is not defined.
        characters: The number of characters that kappa is computed from.
        by_type: The agreement on each type that occurs, by its name.
        confusion: The number of aligned entities by their types in A and in B; None stands for no entity.
    """

    sentences: int
    equal: int
    f1: Interval
    kappa: float | None
    characters: int
    by_type: dict[str, TypeAgreement]
    confusion: Counter[tuple[str | None, str | None]]


def match_texts(a: Iterable[Sentence], b: Iterable[Sentence]) -> Matching:
    """Match the sentences of two sources by their texts in NFC; a text that is there several times, in its order."""
    waiting: defaultdict[str, list[Sentence]] = defaultdict(list)
    count_b = 0
    for sentence in b:
        waiting[sentence.text].append(sentence)
        count_b += 1
    pairs, only_a = [], 0
    for sentence in a:
        if others := waiting.get(sentence.text):
            pairs.append(Pair(sentence, others.pop(0)))
        else:
            only_a += 1
    return Matching(pairs, only_a, count_b - len(pairs))


def measure_agreement(pairs: Sequence[Pair], resamples: int = 1000, seed: int = 0) -> Agreement:
    """Measure the agreement of the two annotations of texts.

    Args:
        pairs: The texts, at least one.
        resamples: The number of bootstrap resamples of the intervals, by sentence.
        seed: The seed of the resamples.

    Returns:
        The agreement. Kappa (Cohen 1960, "A Coefficient of Agreement for Nominal Scales") compares the type of each
        character that is not white space, or O; that the units are characters makes it independent of any tokenizer.
    """
    types = sorted({e.label for pair in pairs for side in (pair.a, pair.b) for e in side.entities})
    labels = LabelSet.of(types) if types else None
    tags_a, tags_b = (_character_types([getattr(pair, side) for pair in pairs]) for side in ("a", "b"))
    counts = _count(pairs, labels)
    return Agreement(
        len(pairs),
        sum(not pair.differs for pair in pairs),
        interval(counts, micro_f1, resamples, seed=seed),
        _kappa(tags_a, tags_b),
        len(tags_a),
        {
            type_: _of_type(counts[:, [i]], tags_a == type_, tags_b == type_, resamples, seed)
            for i, type_ in enumerate(labels.types if labels else ())
        },
        _confusion(pairs),
    )


def _count(pairs: Sequence[Pair], labels: LabelSet | None) -> Counts:
    if labels is None:
        return np.zeros((len(pairs), 1, 3), np.int64)
    return count_entities(((pair.a.entities, pair.b.entities) for pair in pairs), labels)


def _character_types(sentences: Iterable[Sentence]) -> np.ndarray:
    """Return the type of each character that is not white space, or O (characters,)."""
    types = [
        OUTSIDE if tag == OUTSIDE else tag_type(tag)
        for sentence in sentences
        for character, tag in zip(sentence.text, sentence.tags, strict=True)
        if not character.isspace()
    ]
    return np.array(types, dtype=object)


def _of_type(counts: Counts, in_a: np.ndarray, in_b: np.ndarray, resamples: int, seed: int) -> TypeAgreement:
    both, b, a = counts.sum(axis=(0, 1)).tolist()
    return TypeAgreement(a, b, both, interval(counts, micro_f1, resamples, seed=seed), _kappa(in_a, in_b))


def _kappa(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Cohen's kappa of two label sequences (units,), or None if both have one label only, the same."""
    if len(set(a.tolist()) | set(b.tolist())) < 2:
        return None
    return float(cohen_kappa_score(a.tolist(), b.tolist()))


def _confusion(pairs: Iterable[Pair]) -> Counter[tuple[str | None, str | None]]:
    confusion: Counter[tuple[str | None, str | None]] = Counter()
    for pair in pairs:
        confusion.update((e.label, e.label) for e in set(pair.a.entities) & set(pair.b.entities))
        confusion.update((_label(error.gold), _label(error.predicted)) for error in pair.differences())
    return confusion


def _label(entity: Entity | None) -> str | None:
    return entity.label if entity else None
