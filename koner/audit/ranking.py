"""Candidates where the annotation differs from out-of-sample predictions, ranked by cleanlab's label quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from cleanlab.token_classification.rank import get_label_quality_scores

from koner.annotation.pairs import pair_annotations
from koner.audit.candidates import Candidate
from koner.audit.out_of_sample import OutOfSample
from koner.evaluation.error_kinds import find_errors
from koner.labels.bio import Entity


def find_candidates(predictions: Sequence[OutOfSample]) -> list[Candidate]:
    """Return the places where annotation and out-of-sample prediction differ, the most certain errors first.

    Annotated and predicted entities are aligned as in the evaluation. cleanlab gives each token a label quality, the
    probability of the annotated tag (Wang and Mueller 2022, "Detecting Label Errors in Token Classification Data");
    the score of a candidate is 1 less the mean quality of the tokens whose tags differ. `benchmarks/audit.py` compares
    it with other scores.

    Args:
        predictions: The sentences with what models predict that were not trained on them.
    """
    _, qualities = get_label_quality_scores([p.gold_ids for p in predictions], [p.probabilities for p in predictions])
    found = [
        Candidate(p.id, p.text, "model", annotated, suggested, 1 - quality)
        for p, token_qualities in zip(predictions, qualities, strict=True)
        for annotated, suggested, quality in _differences(p, token_qualities.to_numpy())
    ]
    return sorted(found, key=lambda candidate: -candidate.score)


def _differences(p: OutOfSample, qualities: np.ndarray) -> Iterator[tuple[Entity | None, Entity | None, float]]:
    """Yield pairs of an annotated and a predicted entity that differ, with the mean quality of their tokens."""
    differs = p.gold_ids != p.predicted_ids
    starts, ends = np.array(p.offsets, np.intp).reshape(-1, 2).T
    for error in find_errors(pair_annotations(p.id, p.text, p.gold, p.predicted)):
        sides = [entity for entity in (error.gold, error.predicted) if entity]
        inside = np.zeros(len(starts), bool)
        for entity in sides:
            inside |= (starts < entity.end) & (entity.start < ends)
        # Tags that agree, and spans that do not: a token that an entity ends within.
        selected = inside & differs if (inside & differs).any() else inside
        quality = float(qualities[selected].mean()) if selected.any() else 1.0
        yield error.gold, error.predicted, quality
