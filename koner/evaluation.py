"""Scoring predictions: on tokens as the published recipe counts, and on exact characters against the annotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from seqeval.metrics import classification_report
from sklearn.metrics import confusion_matrix

from koner.alignment import Retagged
from koner.labels import OUTSIDE, TAGS, TYPES, Entity
from koner.scoring import sequence_scores, sequence_scores_by_type, span_scores
from koner.tagger import Tagged, Tagger

_SPAN = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string()), ("score", pa.float64())])
PREDICTION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("gold", pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]))),
        ("predicted", pa.list_(_SPAN)),
        ("token_starts", pa.list_(pa.int32())),
        ("token_ends", pa.list_(pa.int32())),
        ("gold_tags", pa.list_(pa.string())),
        ("predicted_tags", pa.list_(pa.string())),
        ("token_scores", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Prediction:
    """A sentence of the test part with its gold and what the tagger made of it."""

    retagged: Retagged
    tagged: Tagged

    @property
    def gold(self) -> tuple[Entity, ...]:
        return self.retagged.sentence.entities

    @property
    def predicted(self) -> list[Entity]:
        return [Entity(e.start, e.end, e.label) for e in self.tagged.entities]


def predict(tagger: Tagger, sentences: Sequence[Retagged]) -> list[Prediction]:
    """Runs the tagger over the sentences' texts, as the service would.

    Raises ValueError where the tagger cuts a text into other tokens than the sentence was retagged to.
    """
    tagged = tagger.tag_all([r.sentence.text for r in sentences])
    for r, t in zip(sentences, tagged, strict=True):
        if len(r.encoded.tokens) != len(t.token_tags):
            raise ValueError(f"{r.sentence.id}: {len(t.token_tags)} tokens tagged of {len(r.encoded.tokens)}")
    return [Prediction(r, t) for r, t in zip(sentences, tagged, strict=True)]


def wordpiece_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Scores tokens as the published recipe does (seqeval, micro), and the same by type."""
    gold, predicted = _token_tags(predictions)
    return {**sequence_scores(gold, predicted), "by_type": sequence_scores_by_type(gold, predicted)}


def _token_tags(predictions: Sequence[Prediction]) -> tuple[list[list[str]], list[list[str]]]:
    return [p.retagged.token_tags for p in predictions], [list(p.tagged.token_tags) for p in predictions]


def report(predictions: Sequence[Prediction]) -> str:
    """seqeval's classification report over tokens, as text."""
    gold, predicted = _token_tags(predictions)
    return str(classification_report(gold, predicted, digits=4, zero_division=0))


def evaluate(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The figures of `metrics/evaluate.json`: per protocol, overall and by type, with the counts behind them."""
    return {
        "sentences": len(predictions),
        "entities": sum(len(p.gold) for p in predictions),
        "wordpiece": wordpiece_scores(predictions),
        "span": span_scores((p.gold, p.predicted) for p in predictions),
    }


def tag_pairs(predictions: Sequence[Prediction], types_only: bool = False) -> list[tuple[str, str]]:
    """The (actual, predicted) tag of every token, or their types alone."""
    pairs = [pair for p in predictions for pair in zip(p.retagged.token_tags, p.tagged.token_tags, strict=True)]
    if types_only:
        return [(a[2:] or OUTSIDE, b[2:] or OUTSIDE) for a, b in pairs]
    return pairs


def confusion(pairs: Sequence[tuple[str, str]], types_only: bool = False) -> tuple[np.ndarray, list[str]]:
    """The confusion matrix of `tag_pairs`, rows actual and columns predicted, with its labels in order."""
    labels = [*TYPES, OUTSIDE] if types_only else list(TAGS)
    actual, predicted = zip(*pairs, strict=True)
    return confusion_matrix(actual, predicted, labels=labels), labels


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """Lays a prediction out as a row of `PREDICTION_SCHEMA`."""
    sentence, encoded = prediction.retagged.sentence, prediction.retagged.encoded
    return {
        "id": sentence.id,
        "text": sentence.text,
        "source": sentence.source,
        "gold": [{"start": e.start, "end": e.end, "label": e.label} for e in sentence.entities],
        "predicted": [
            {"start": e.start, "end": e.end, "label": e.label, "score": e.score} for e in prediction.tagged.entities
        ],
        "token_starts": [start for start, _ in encoded.offsets],
        "token_ends": [end for _, end in encoded.offsets],
        "gold_tags": prediction.retagged.token_tags,
        "predicted_tags": list(prediction.tagged.token_tags),
        "token_scores": list(prediction.tagged.token_scores),
    }
