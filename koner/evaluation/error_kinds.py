"""Kinds of errors, as in SemEval-2013 task 9.1, and its four scoring schemes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nervaluate import Evaluator
from scipy.optimize import linear_sum_assignment

from koner.inference.predictions import Prediction
from koner.labels.bio import Entity
from koner.labels.label_set import LabelSet

ErrorKind = Literal["boundary", "type", "both", "missed", "spurious"]
KINDS: tuple[Literal["correct"] | ErrorKind, ...] = ("correct", "boundary", "type", "both", "missed", "spurious")
SCHEMES = ("strict", "exact", "partial", "ent_type")
_COUNTS = ("correct", "incorrect", "partial", "missed", "spurious")
_FIGURES = ("precision", "recall", "f1")

# The gold entity, or the predicted one if it has no gold entity; then both sides.
_Pair = tuple[Entity, Entity | None, Entity | None]


@dataclass(frozen=True, slots=True)
class SpanError:
    """An error of the tagger; offsets are code points of the sentence.

    Attributes:
        kind: `boundary`: overlapping, same type. `type`: same span, another type. `both`: overlapping, another span and
            type. `missed`: only gold. `spurious`: only predicted.
        gold: The gold entity, if any.
        predicted: The predicted entity, if any.
        score: The score of the predicted entity.
    """

    kind: ErrorKind
    gold: Entity | None
    predicted: Entity | None
    score: float | None


def find_errors(prediction: Prediction) -> list[SpanError]:
    """Return the errors of a sentence in the order of the text; each entity is part of at most one error.

    Gold and predicted entities are aligned one to one: exact matches first, then as many overlapping pairs as possible,
    preferably of the same type, then with the most common characters. As in nervaluate, entities overlap if they share
    at least 1% of the gold entity's characters.
    """
    scores = {Entity(e.start, e.end, e.label): e.score for e in prediction.scored_entities}
    errors = []
    for _, gold, predicted in _align(prediction):
        kind = _kind(gold, predicted)
        if kind != "correct":
            errors.append(SpanError(kind, gold, predicted, scores[predicted] if predicted else None))
    return errors


def breakdown(predictions: Iterable[Prediction], labels: LabelSet) -> dict[str, Any]:
    """Count correct entities and errors by kind, overall and by type, and score them in nervaluate's four schemes.

    An entity counts under its gold type, a spurious one under its predicted type. The schemes (Segura-Bedmar et al.
    2013): `strict` requires span and type, `exact` the span, `ent_type` the type on any overlap; `partial` counts an
    overlap with another span as half.

    Returns:
        `counts` by kind, `by_type` the same for each type, and the scores of the four `schemes`.
    """
    counts: Counter[str] = Counter()
    by_type: dict[str, Counter[str]] = {type_: Counter() for type_ in labels.types}
    # nervaluate returns no figures without a document, so start with an empty one.
    true: list[list[dict[str, Any]]] = [[]]
    pred: list[list[dict[str, Any]]] = [[]]
    for p in predictions:
        pairs = _align(p)
        for entity, gold, predicted in pairs:
            kind = _kind(gold, predicted)
            counts[kind] += 1
            by_type[entity.label][kind] += 1
        # nervaluate aligns greedily, per scheme and in list order, so its schemes contradict each other if a span
        # overlaps two others. Shifting the pairs apart leaves it no choice.
        true.append([_shifted(gold, i * len(p.text)) for i, (_, gold, _) in enumerate(pairs) if gold])
        pred.append([_shifted(q, i * len(p.text)) for i, (_, _, q) in enumerate(pairs) if q])
    overall = Evaluator(true, pred, tags=list(labels.types), loader="dict").evaluate()["overall"]
    return {
        "counts": {kind: counts[kind] for kind in KINDS},
        # nervaluate's own figures by type count an entity of the wrong type as missed and spurious.
        "by_type": {type_: {kind: kinds[kind] for kind in KINDS} for type_, kinds in by_type.items()},
        "schemes": {
            scheme: {
                **{count: getattr(overall[scheme], count) for count in _COUNTS},
                **{figure: float(getattr(overall[scheme], figure)) for figure in _FIGURES},
            }
            for scheme in SCHEMES
        },
    }


def _align(prediction: Prediction) -> list[_Pair]:
    """Return pairs of gold and predicted entities, aligned as `find_errors` describes, in the order of the text."""
    exact = set(prediction.gold) & set(prediction.predicted)
    gold = sorted(set(prediction.gold) - exact)
    predicted = sorted(set(prediction.predicted) - exact)
    pairs: list[_Pair] = [(e, e, e) for e in exact]
    # The weights order by pairs, then types, then characters: a lower criterion cannot outweigh a higher one.
    type_weight = 1 + sum(e.end - e.start for e in gold)
    pair_weight = type_weight * (1 + len(gold))
    weights = np.zeros((len(gold), len(predicted)), dtype=np.int64)
    for i, g in enumerate(gold):
        for j, p in enumerate(predicted):
            shared = min(g.end, p.end) - max(g.start, p.start)
            # The minimum overlap of nervaluate.
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


def _shifted(entity: Entity, by: int) -> dict[str, Any]:
    # Ends are inclusive in nervaluate.
    return {"start": by + entity.start, "end": by + entity.end - 1, "label": entity.label}
