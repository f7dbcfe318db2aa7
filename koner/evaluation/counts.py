"""Counts of entities by sentence and type, which the figures are computed from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from koner.evaluation.bootstrap import Counts
from koner.labels.bio import Entity
from koner.labels.label_set import LabelSet


def count_entities(pairs: Iterable[tuple[Iterable[Entity], Iterable[Entity]]], labels: LabelSet) -> Counts:
    """Count the correct, predicted and gold entities of each sentence by type.

    Args:
        pairs: The gold and the predicted entities of each sentence.
        labels: The types.

    Returns:
        An array (sentences, types, 3), types as in `labels`; the last axis is correct, predicted, gold.
    """
    rows = []
    for pair in pairs:
        gold, predicted = map(set, pair)
        row = np.zeros((len(labels.types), 3), dtype=np.int64)
        for column, entities in enumerate((gold & predicted, predicted, gold)):
            for entity in entities:
                row[labels.type_to_id[entity.label], column] += 1
        rows.append(row)
    return np.array(rows, dtype=np.int64).reshape(-1, len(labels.types), 3)
