"""Where a tagger fails: its figures by slices of the data, and whether it finds the types as often as they occur."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koner.corpus import Sentence
from koner.labels import TYPES, Entity
from koner.predictions import Prediction
from koner.scoring import ratios, span_scores
from koner.splitting import balance

SMALL = 30  # gold entities below which a slice's figures say little
UNKNOWN_SOURCE = "unknown"
SEEN, SEEN_OTHERWISE, UNSEEN = "seen", "seen as another type", "unseen"
# Bands of lengths in characters: the least length of each, and its name.
_ENTITY_LENGTHS = {1: "1", 2: "2", 3: "3", 4: "4-5", 6: "6-9", 10: "10+"}
_SENTENCE_LENGTHS = {0: "<20", 20: "20-39", 40: "40-79", 80: "80-159", 160: "160+"}

_Key = tuple[str, str]  # what is sliced by, and the slice


@dataclass(frozen=True, slots=True)
class SeenSurfaces:
    """The surfaces of a part's entities, each with the types that it stood with."""

    types_of: Mapping[str, frozenset[str]]

    def novelty(self, surface: str, type_: str) -> str:
        """Tells whether the surface stood there with that type, only with another one, or never as an entity."""
        types = self.types_of.get(surface)
        if types is None:
            return UNSEEN
        return SEEN if type_ in types else SEEN_OTHERWISE


def seen_surfaces(sentences: Iterable[Sentence]) -> SeenSurfaces:
    """Gathers the surfaces of the sentences' entities, character for character."""
    types_of: dict[str, set[str]] = {}
    for sentence in sentences:
        for e in sentence.entities:
            types_of.setdefault(sentence.text[e.start : e.end], set()).add(e.label)
    return SeenSurfaces({surface: frozenset(types) for surface, types in types_of.items()})


def slices(predictions: Iterable[Prediction], seen: SeenSurfaces) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores exact spans (start, end and type) by type, source, entity length, sentence length and novelty.

    `seen` holds the surfaces of the training part. Lengths are in characters. Each leaf gives the gold, predicted and
    correct entities, precision, recall and F1, and whether the slice is small (`SMALL`). An entity falls into a slice
    by what it is itself, so that a predicted one counts against the precision of its own length, type or novelty, and
    not of the gold entity's that it missed; by source and sentence length it falls where its sentence does. A slice
    without gold or predicted entities is left out, but for the types.
    """
    gold: Counter[_Key] = Counter()
    predicted: Counter[_Key] = Counter()
    correct: Counter[_Key] = Counter()
    for p in predictions:
        annotated, found = set(p.gold), set(p.predicted)
        for counts, entities in ((gold, annotated), (predicted, found), (correct, annotated & found)):
            for entity in entities:
                counts.update(_keys(p, entity, seen))

    present = gold.keys() | predicted.keys()
    sources = {slice_ for by, slice_ in present if by == "source"}
    order: dict[str, Iterable[str]] = {
        "type": TYPES,
        "source": sorted(sources, key=lambda source: (source == UNKNOWN_SOURCE, source)),
        "entity_length": _ENTITY_LENGTHS.values(),
        "sentence_length": _SENTENCE_LENGTHS.values(),
        "novelty": (SEEN, SEEN_OTHERWISE, UNSEEN),
    }
    return {
        by: {
            slice_: _leaf(gold[by, slice_], predicted[by, slice_], correct[by, slice_])
            for slice_ in names
            if by == "type" or (by, slice_) in present
        }
        for by, names in order.items()
    }


def _keys(p: Prediction, entity: Entity, seen: SeenSurfaces) -> tuple[_Key, ...]:
    return (
        ("type", entity.label),
        ("source", UNKNOWN_SOURCE if p.source is None else p.source),
        ("entity_length", _band(entity.end - entity.start, _ENTITY_LENGTHS)),
        ("sentence_length", _band(len(p.text), _SENTENCE_LENGTHS)),
        ("novelty", seen.novelty(p.text[entity.start : entity.end], entity.label)),
    )


def _band(length: int, bands: Mapping[int, str]) -> str:
    least = list(bands)
    return bands[least[bisect_right(least, length) - 1]]


def _leaf(gold: int, predicted: int, correct: int) -> dict[str, Any]:
    return {
        "gold": gold,
        "predicted": predicted,
        "correct": correct,
        **ratios(correct, predicted, gold),
        "small": gold < SMALL,
    }


def generalisation(predictions_by_part: Mapping[str, Sequence[Prediction]]) -> dict[str, dict[str, Any]]:
    """Compares, for each part, how the types are spread over its gold and its predicted entities.

    Gives `koner.splitting.balance` of the two, named 'gold' and 'predicted', beside the precision, recall and F1 of
    exact spans, so that parts can be compared. Gold and predicted entities stand in the same sentences and are no
    independent samples: the chi-squared p-value is too large for a good tagger. The divergence is the figure to read.
    """
    found = {}
    for part, predictions in predictions_by_part.items():
        scores = span_scores((p.gold, p.predicted) for p in predictions)
        counts = {
            "gold": _type_counts(p.gold for p in predictions),
            "predicted": _type_counts(p.predicted for p in predictions),
        }
        found[part] = {
            "counts": counts,
            **balance(counts),
            **{figure: scores[figure] for figure in ("precision", "recall", "f1")},
        }
    return found


def _type_counts(entities_of_each: Iterable[Iterable[Entity]]) -> dict[str, int]:
    counts = Counter(e.label for entities in entities_of_each for e in set(entities))
    return {type_: counts[type_] for type_ in TYPES}
