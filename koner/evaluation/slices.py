"""Scores by slices of the data, and the distribution of predicted types against the annotated ones."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koner.corpus.sentences import Sentence
from koner.corpus.splitting import balance
from koner.inference.predictions import Prediction
from koner.labels.bio import Entity
from koner.labels.label_set import LabelSet
from koner.labels.scores import precision_recall_f1, span_scores

SMALL = 30  # gold entities; the figures of a smaller slice are unreliable
UNKNOWN_SOURCE = "unknown"
SEEN, SEEN_OTHERWISE, UNSEEN = "seen", "seen as another type", "unseen"
# Ranges of lengths in characters: the minimum length of each, and its name.
_ENTITY_LENGTHS = {1: "1", 2: "2", 3: "3", 4: "4-5", 6: "6-9", 10: "10+"}
_SENTENCE_LENGTHS = {0: "<20", 20: "20-39", 40: "40-79", 80: "80-159", 160: "160+"}

_Key = tuple[str, str]  # the criterion, and the slice


@dataclass(frozen=True, slots=True)
class SeenSurfaces:
    """The surface forms of a part's entities, each with the types that it occurs with."""

    types_by_surface: Mapping[str, frozenset[str]]

    def novelty(self, surface: str, type_: str) -> str:
        """Return whether a surface form occurs with that type, only with another type, or never as an entity."""
        types = self.types_by_surface.get(surface)
        if types is None:
            return UNSEEN
        return SEEN if type_ in types else SEEN_OTHERWISE


def seen_surfaces(sentences: Iterable[Sentence]) -> SeenSurfaces:
    """Collect the surface forms of the entities of sentences."""
    types_by_surface: dict[str, set[str]] = {}
    for sentence in sentences:
        for e in sentence.entities:
            types_by_surface.setdefault(sentence.text[e.start : e.end], set()).add(e.label)
    return SeenSurfaces({surface: frozenset(types) for surface, types in types_by_surface.items()})


def slices(
    predictions: Iterable[Prediction], seen: SeenSurfaces, labels: LabelSet
) -> dict[str, dict[str, dict[str, Any]]]:
    """Score exact spans by type, source, entity length, sentence length and novelty; lengths are in characters.

    An entity belongs to a slice by its own properties. So a predicted entity counts towards the precision of its own
    length, type or novelty, not those of the gold entity that it misses. By source and sentence length it belongs to
    the slice of its sentence.

    Args:
        predictions: The predictions.
        seen: The surface forms of the training part.
        labels: The types.

    Returns:
        By criterion and slice: the number of gold, predicted and correct entities, precision, recall, F1, and whether
        the slice is small (`SMALL`). Slices without entities are left out, except types.
    """
    gold: Counter[_Key] = Counter()
    predicted: Counter[_Key] = Counter()
    correct: Counter[_Key] = Counter()
    for p in predictions:
        gold_set, predicted_set = set(p.gold), set(p.predicted)
        for counts, entities in ((gold, gold_set), (predicted, predicted_set), (correct, gold_set & predicted_set)):
            for entity in entities:
                counts.update(_keys(p, entity, seen))

    present = gold.keys() | predicted.keys()
    sources = {slice_ for by, slice_ in present if by == "source"}
    order: dict[str, Iterable[str]] = {
        "type": labels.types,
        "source": sorted(sources, key=lambda source: (source == UNKNOWN_SOURCE, source)),
        "entity_length": _ENTITY_LENGTHS.values(),
        "sentence_length": _SENTENCE_LENGTHS.values(),
        "novelty": (SEEN, SEEN_OTHERWISE, UNSEEN),
    }
    return {
        by: {
            slice_: _slice_scores(gold[by, slice_], predicted[by, slice_], correct[by, slice_])
            for slice_ in names
            if by == "type" or (by, slice_) in present
        }
        for by, names in order.items()
    }


def _keys(p: Prediction, entity: Entity, seen: SeenSurfaces) -> tuple[_Key, ...]:
    return (
        ("type", entity.label),
        ("source", UNKNOWN_SOURCE if p.source is None else p.source),
        ("entity_length", _length_range(entity.end - entity.start, _ENTITY_LENGTHS)),
        ("sentence_length", _length_range(len(p.text), _SENTENCE_LENGTHS)),
        ("novelty", seen.novelty(p.text[entity.start : entity.end], entity.label)),
    )


def _length_range(length: int, ranges: Mapping[int, str]) -> str:
    minima = list(ranges)
    return ranges[minima[bisect_right(minima, length) - 1]]


def _slice_scores(gold: int, predicted: int, correct: int) -> dict[str, Any]:
    return {
        "gold": gold,
        "predicted": predicted,
        "correct": correct,
        **precision_recall_f1(correct, predicted, gold),
        "small": gold < SMALL,
    }


def generalisation(
    predictions_by_part: Mapping[str, Sequence[Prediction]], labels: LabelSet
) -> dict[str, dict[str, Any]]:
    """Compare the distribution of types between the gold and the predicted entities of each part.

    Gold and predicted entities come from the same sentences and are not independent samples, so the chi-squared p-value
    is too large for a good tagger. Use the divergence.

    Returns:
        For each part, the result of `koner.corpus.splitting.balance` for 'gold' and 'predicted', and precision, recall
        and F1 of exact spans, so that parts can be compared.
    """
    comparison = {}
    for part, predictions in predictions_by_part.items():
        scores = span_scores((p.gold, p.predicted) for p in predictions)
        counts = {
            "gold": _type_counts((p.gold for p in predictions), labels),
            "predicted": _type_counts((p.predicted for p in predictions), labels),
        }
        comparison[part] = {
            "counts": counts,
            **balance(counts),
            **scores,
        }
    return comparison


def _type_counts(entities_by_sentence: Iterable[Iterable[Entity]], labels: LabelSet) -> dict[str, int]:
    counts = Counter(e.label for entities in entities_by_sentence for e in set(entities))
    return {type_: counts[type_] for type_ in labels.types}
