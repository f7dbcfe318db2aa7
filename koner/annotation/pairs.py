"""Two annotations of one text, in the form in which the evaluation compares gold and predicted entities."""

from __future__ import annotations

from collections.abc import Iterable

from koner.inference.decoding import ScoredEntity
from koner.inference.predictions import Prediction
from koner.labels.bio import Entity


def pair_annotations(id_: str, text: str, first: Iterable[Entity], second: Iterable[ScoredEntity]) -> Prediction:
    """Return two annotations of a text as a prediction without tokens.

    `koner.evaluation.error_kinds.find_errors` aligns their entities, and `koner.report.error_cards.error_cards` marks
    them in the text.

    Args:
        id_: The id of the sentence.
        text: The sentence.
        first: The entities on the side of the gold ones.
        second: The entities on the side of the predicted ones, with their scores.
    """
    return Prediction(id_, text, None, tuple(first), tuple(second), (), (), (), ())
