"""What kinds of errors a tagger makes: SemEval-2013 task 9.1's breakdown and its four ways of scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nervaluate import Evaluator
from scipy.optimize import linear_sum_assignment

from koner.labels import TYPES, Entity
from koner.predictions import Prediction

ErrorKind = Literal["boundary", "type", "both", "missed", "spurious"]
KINDS: tuple[Literal["correct"] | ErrorKind, ...] = ("correct", "boundary", "type", "both", "missed", "spurious")
SCHEMES = ("strict", "exact", "partial", "ent_type")
_COUNTS = ("correct", "incorrect", "partial", "missed", "spurious")
_FIGURES = ("precision", "recall", "f1")

# The gold entity, or the predicted one that has none; then both sides.
_Pair = tuple[Entity, Entity | None, Entity | None]


@dataclass(frozen=True, slots=True)
class SpanError:
    """An error of the tagger; offsets are code points of the sentence, and `score` is the predicted entity's.

    boundary: overlapping, of the same type. type: the same span, of another type. both: overlapping, of another span
    and type. missed: gold alone. spurious: predicted alone.
    """

    kind: ErrorKind
    gold: Entity | None
    predicted: Entity | None
    score: float | None


def errors_of(prediction: Prediction) -> list[SpanError]:
    """Lists a sentence's errors in the order of the text, each entity in at most one of them.

    Gold and predicted entities are aligned one to one: exact ones first, then as many overlapping ones as can be, of
    the same type where that leaves a choice, then with the most characters in common. Entities overlap, as nervaluate
    counts, when they share at least 1% of the gold entity's characters.
    """
    score_of = {Entity(e.start, e.end, e.label): e.score for e in prediction.found}
    errors = []
    for _, gold, predicted in _align(prediction):
        kind = _kind(gold, predicted)
        if kind != "correct":
            errors.append(SpanError(kind, gold, predicted, score_of[predicted] if predicted else None))
    return errors


def breakdown(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Counts correct entities and errors by kind, overall and by type, and scores them in nervaluate's four schemes.

    An entity counts under its gold type; a spurious one, which has none, under the predicted type. Of the schemes
    (Segura-Bedmar et al. 2013), strict wants span and type, exact the span, ent_type the type on any overlap, and
    partial counts any overlap of another span as half.
    """
    counts: Counter[str] = Counter()
    by_type: dict[str, Counter[str]] = {type_: Counter() for type_ in TYPES}
    # It gives no figures at all without a document, hence an empty one.
    true: list[list[dict[str, Any]]] = [[]]
    pred: list[list[dict[str, Any]]] = [[]]
    for p in predictions:
        pairs = _align(p)
        for entity, gold, predicted in pairs:
            kind = _kind(gold, predicted)
            counts[kind] += 1
            by_type[entity.label][kind] += 1
        # nervaluate aligns greedily, each scheme for itself and by the order of its lists, so that its schemes
        # contradict each other where a span overlaps two. Pairs moved apart leave it nothing to choose.
        true.append([_moved(gold, i * len(p.text)) for i, (_, gold, _) in enumerate(pairs) if gold])
        pred.append([_moved(found, i * len(p.text)) for i, (_, _, found) in enumerate(pairs) if found])
    overall = Evaluator(true, pred, tags=list(TYPES), loader="dict").evaluate()["overall"]
    return {
        "counts": {kind: counts[kind] for kind in KINDS},
        # nervaluate's own figures by type show an entity of the wrong type as a missed and a spurious one.
        "by_type": {type_: {kind: found[kind] for kind in KINDS} for type_, found in by_type.items()},
        "schemes": {
            scheme: {
                **{count: getattr(overall[scheme], count) for count in _COUNTS},
                **{figure: float(getattr(overall[scheme], figure)) for figure in _FIGURES},
            }
            for scheme in SCHEMES
        },
    }


def _align(prediction: Prediction) -> list[_Pair]:
    """Pairs gold and predicted entities as `errors_of` says, in the order of the text."""
    exact = set(prediction.gold) & set(prediction.predicted)
    gold = sorted(set(prediction.gold) - exact)
    predicted = sorted(set(prediction.predicted) - exact)
    pairs: list[_Pair] = [(e, e, e) for e in exact]
    # One sum orders by pairs, then types, then characters: neither of the latter can outweigh one of the former.
    type_weight = 1 + sum(e.end - e.start for e in gold)
    pair_weight = type_weight * (1 + len(gold))
    weights = np.zeros((len(gold), len(predicted)), dtype=np.int64)
    for i, g in enumerate(gold):
        for j, p in enumerate(predicted):
            shared = min(g.end, p.end) - max(g.start, p.start)
            # nervaluate's least threshold.
            if 100 * shared >= g.end - g.start:
                weights[i, j] = pair_weight + type_weight * (g.label == p.label) + shared
    for i, j in zip(*linear_sum_assignment(weights, maximize=True), strict=True):
        if weights[i, j]:
            pairs.append((gold[i], gold[i], predicted[j]))
    paired = {e for _, *sides in pairs for e in sides}
    pairs += [(g, g, None) for g in gold if g not in paired]
    pairs += [(p, None, p) for p in predicted if p not in paired]
    return sorted(pairs, key=lambda pair: pair[0])


def _kind(gold: Entity | None, predicted: Entity | None) -> Literal["correct"] | ErrorKind:
    if predicted is None:
        return "missed"
    if gold is None:
        return "spurious"
    if gold == predicted:
        return "correct"
    if gold.label == predicted.label:
        return "boundary"
    return "type" if (gold.start, gold.end) == (predicted.start, predicted.end) else "both"


def _moved(entity: Entity, by: int) -> dict[str, Any]:
    # Ends are inclusive there.
    return {"start": by + entity.start, "end": by + entity.end - 1, "label": entity.label}
