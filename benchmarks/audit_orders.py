"""The orders in which `benchmarks.audit` looks at the places of a corpus, and the planted errors that each finds."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from cleanlab.token_classification.filter import find_label_issues
from cleanlab.token_classification.rank import get_label_quality_scores

from benchmarks.damage import Planted
from koner.audit.out_of_sample import OutOfSample
from koner.audit.ranking import find_candidates
from koner.corpus.sentences import Sentence
from koner.labels.bio import Entity

_SEED = 0
_TINY = 1e-7


@dataclass(frozen=True)
class Item:
    """A place of the corpus: a candidate, or an annotated entity on which the model agrees.

    Attributes:
        id: The id of the sentence.
        annotated: The annotated entity, if any.
        suggested: The predicted entity, if any.
        is_candidate: Whether both differ.
        score: The score of the audit.
        loss: The mean loss of the annotated tags over the tokens of both entities.
        suggestion: The score of the predicted entity.
        lowest: 1 less the lowest label quality of the tokens whose tags differ.
        margin: 1 less their mean label quality, as the normalized margin.
        is_selected: Whether cleanlab counts one of them as a label error (confident learning).
    """

    id: str
    annotated: Entity | None
    suggested: Entity | None
    is_candidate: bool
    score: float = 0.0
    loss: float = 0.0
    suggestion: float = 0.0
    lowest: float = 0.0
    margin: float = 0.0
    is_selected: bool = False


def make_items(predictions: Sequence[OutOfSample]) -> list[Item]:
    """Return the candidates of the audit, and the annotated entities that are part of none."""
    by_id = {prediction.id: prediction for prediction in predictions}
    labels, probabilities = [p.gold_ids for p in predictions], [p.probabilities for p in predictions]
    margins = get_label_quality_scores(labels, probabilities, token_score_method="normalized_margin")[1]  # noqa: S106
    margin_of = {p.id: series.to_numpy() for p, series in zip(predictions, margins, strict=True)}
    numbers = {p.id: i for i, p in enumerate(predictions)}
    selected = set(find_label_issues(labels, probabilities, n_jobs=1))
    items, doubted = [], set()
    for candidate in find_candidates(predictions):
        p = by_id[candidate.id]
        inside = _inside(p, candidate.annotated, candidate.suggested)
        differs = inside & (p.gold_ids != p.predicted_ids)
        differs = differs if differs.any() else inside
        scores = {(e.start, e.end, e.label): e.score for e in p.predicted}
        s = candidate.suggested
        items.append(
            Item(
                p.id,
                candidate.annotated,
                s,
                True,
                candidate.score,
                float(_losses(p)[inside].mean()),
                scores[s.start, s.end, s.label] if s else 0.0,
                1 - float(_gold_probabilities(p)[differs].min()),
                1 - float(margin_of[p.id][differs].mean()),
                any((numbers[p.id], token) in selected for token in np.flatnonzero(differs).tolist()),
            )
        )
        doubted.add((p.id, candidate.annotated))
    for p in predictions:
        for entity in p.gold:
            if (p.id, entity) not in doubted:
                loss = float(_losses(p)[_inside(p, entity, None)].mean())
                items.append(Item(p.id, entity, entity, False, 0.0, loss))
    return items


def _inside(p: OutOfSample, *entities: Entity | None) -> np.ndarray:
    """Return which tokens share a character with one of the entities (tokens,)."""
    starts, ends = np.array(p.offsets, np.intp).reshape(-1, 2).T
    inside = np.zeros(len(starts), bool)
    for entity in filter(None, entities):
        inside |= (starts < entity.end) & (entity.start < ends)
    return inside


def _gold_probabilities(p: OutOfSample) -> np.ndarray:
    return p.probabilities[np.arange(len(p.gold_ids)), p.gold_ids]


def _losses(p: OutOfSample) -> np.ndarray:
    losses: np.ndarray = -np.log(_gold_probabilities(p) + _TINY)
    return losses


def _at_random(items: Iterable[Item]) -> list[Item]:
    shuffled = list(items)
    random.Random(_SEED).shuffle(shuffled)  # noqa: S311
    return shuffled


def _candidates_by(name: str) -> Callable[[Sequence[Item]], list[Item]]:
    return lambda items: sorted((i for i in items if i.is_candidate), key=lambda item: -getattr(item, name))


ORDERS: dict[str, Callable[[Sequence[Item]], list[Item]]] = {
    "all at random": _at_random,
    "candidates at random": lambda items: _at_random(item for item in items if item.is_candidate),
    "model loss": lambda items: sorted(items, key=lambda item: -item.loss),
    "suggestion's score": _candidates_by("suggestion"),
    "cleanlab, lowest": _candidates_by("lowest"),
    "cleanlab, margin": _candidates_by("margin"),
    "cleanlab, selected": lambda items: sorted(_candidates_by("score")(items), key=lambda item: not item.is_selected),
    "koner audit": _candidates_by("score"),
}


class PlantedIndex:
    """The planted errors of a corpus, to be found by items.

    Args:
        planted: The errors.
        sentences: The sentences of the corpus, to which the errors refer.
    """

    def __init__(self, planted: Sequence[Planted], sentences: Sequence[Sentence]) -> None:
        self._planted = planted
        self._by_id: defaultdict[str, list[Planted]] = defaultdict(list)
        for error in planted:
            self._by_id[sentences[error.sentence].id].append(error)

    def __len__(self) -> int:
        return len(self._planted)

    def find(self, items: Iterable[Item]) -> list[Planted | None]:
        """Return the planted error that each item finds, or None."""
        return [next((e for e in self._by_id[item.id] if _finds(item, e)), None) for item in items]

    def recall(self, found: Iterable[Planted | None], kind: str | None = None) -> float:
        """Return the share of the planted errors, of all kinds or of one, that were found."""
        wanted = {error for error in self._planted if kind in (None, error.kind)}
        return len(wanted.intersection(found)) / max(1, len(wanted))


def _finds(item: Item, error: Planted) -> bool:
    if error.damaged is not None:
        return item.annotated == error.damaged
    original, suggested = error.original, item.suggested
    if item.annotated is not None or suggested is None or original is None:
        return False
    return suggested.start < original.end and original.start < suggested.end
