"""The sentences with errors of the HTML report, divided into plain and marked pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from koner.errors import KonerError
from koner.evaluation.error_kinds import SpanError, find_errors
from koner.inference.predictions import Prediction
from koner.labels.bio import Entity


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a sentence: plain if `label` is None, else an entity, which is 'correct' or has an error of `kind`."""

    text: str
    label: str | None = None
    kind: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A sentence with errors: its gold line, its predicted line, and the errors in the order of the text."""

    prediction: Prediction
    gold: list[Piece]
    predicted: list[Piece]
    errors: list[SpanError]


def error_cards(predictions: Sequence[Prediction]) -> list[Card]:
    """Return the sentences with errors, the worst first.

    Sentences are ordered by the highest score of a wrong prediction. Sentences with missed entities only follow, those
    with the most missed characters first.

    Raises:
        KonerError: If an entity lies outside its sentence.
    """
    errors_by_sentence = [(p, errors) for p in predictions if (errors := find_errors(p))]
    errors_by_sentence.sort(key=lambda pair: _severity(pair[1]), reverse=True)
    return [_card(p, errors) for p, errors in errors_by_sentence]


def types_of(error: SpanError) -> list[str]:
    """Return the types of the gold and the predicted entity of an error, without repetition."""
    return list(dict.fromkeys(side.label for side in (error.gold, error.predicted) if side))


def _severity(errors: Sequence[SpanError]) -> tuple[float, int]:
    highest_score = max((e.score for e in errors if e.score is not None), default=-math.inf)
    return highest_score, sum(e.gold.end - e.gold.start for e in errors if e.gold and not e.predicted)


def _card(p: Prediction, errors: list[SpanError]) -> Card:
    gold = {e: Piece(p.text[e.start : e.end], e.label, "correct") for e in p.gold}
    predicted = {
        e: Piece(p.text[e.start : e.end], e.label, "correct", scored.score)
        for e, scored in zip(p.predicted, p.scored_entities, strict=True)
    }
    for error in errors:
        for entity, pieces in ((error.gold, gold), (error.predicted, predicted)):
            if entity:
                pieces[entity] = replace(pieces[entity], kind=error.kind)
    return Card(p, _pieces(p, gold), _pieces(p, predicted), errors)


def _pieces(p: Prediction, marks: Mapping[Entity, Piece]) -> list[Piece]:
    """Divide a sentence at its entities, which must be disjoint."""
    pieces: list[Piece] = []
    position = 0
    for entity in sorted(marks):
        if not position <= entity.start < entity.end <= len(p.text):
            raise KonerError(f"{p.id}: the entity {entity.start}:{entity.end} overlaps another or leaves the text")
        pieces += [Piece(p.text[position : entity.start]), marks[entity]]
        position = entity.end
    return [piece for piece in (*pieces, Piece(p.text[position:])) if piece.text]
