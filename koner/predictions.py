"""Predictions beside their gold, as the evaluate stage keeps them and everything that scores reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from koner.alignment import Retagged
from koner.corpus import ENTITY_FIELDS, entities_from_rows, entity_rows
from koner.encoding import Span
from koner.errors import KonerError
from koner.labels import Entity
from koner.parquet import read_rows, write_rows
from koner.tagger import ScoredEntity, Tagger

_CHUNK = 512  # sentences between two steps of the progress bar
PREDICTION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("gold", pa.list_(pa.struct(ENTITY_FIELDS))),
        ("predicted", pa.list_(pa.struct([*ENTITY_FIELDS, ("score", pa.float64())]))),
        ("token_starts", pa.list_(pa.int32())),
        ("token_ends", pa.list_(pa.int32())),
        ("gold_tags", pa.list_(pa.string())),
        ("predicted_tags", pa.list_(pa.string())),
        ("token_scores", pa.list_(pa.float64())),
        ("uncalibrated", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A sentence with the entities annotated in it and those the tagger found.

    `gold` and `found` are spans in code points of `text`. `offsets` are the spans of its tokens, and `gold_tags`,
    `predicted_tags` and `token_scores` (the probability of the predicted tag) stand one to a token.
    """

    id: str
    text: str
    source: str | None
    gold: tuple[Entity, ...]
    found: tuple[ScoredEntity, ...]
    offsets: tuple[Span, ...]
    gold_tags: tuple[str, ...]
    predicted_tags: tuple[str, ...]
    token_scores: tuple[float, ...]
    # One to an entity of `found`: its score at temperature 1.
    uncalibrated: tuple[float, ...] = ()

    @property
    def predicted(self) -> tuple[Entity, ...]:
        """The entities found, without their scores."""
        return tuple(Entity(e.start, e.end, e.label) for e in self.found)


def predict(tagger: Tagger, sentences: Sequence[Retagged]) -> list[Prediction]:
    """Runs the tagger over the sentences' texts, as the service would.

    Raises `KonerError` where the tagger cuts a text into other tokens than the sentence was retagged to.
    """
    predictions: list[Prediction] = []
    with tqdm(total=len(sentences), desc="tag", unit=" sentences", mininterval=1) as bar:
        for start in range(0, len(sentences), _CHUNK):
            chunk = sentences[start : start + _CHUNK]
            for r, logits in zip(chunk, tagger.logits([r.sentence.text for r in chunk]), strict=True):
                tagged = tagger.decode(logits)
                if len(r.encoded.tokens) != len(tagged.token_tags):
                    raise KonerError(
                        f"{r.sentence.id}: the model's tokenizer cuts it into {len(tagged.token_tags)} tokens, not the "
                        f"{len(r.encoded.tokens)} of the data; run `dvc repro`"
                    )
                predictions.append(
                    Prediction(
                        r.sentence.id,
                        r.sentence.text,
                        r.sentence.source,
                        r.sentence.entities,
                        tagged.entities,
                        tuple(r.encoded.offsets),
                        tuple(r.token_tags),
                        tagged.token_tags,
                        tagged.token_scores,
                        tuple(e.score for e in tagger.decode(logits, temperature=1.0).entities),
                    )
                )
            bar.update(len(chunk))
    return predictions


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Writes predictions as Parquet (`PREDICTION_SCHEMA`), in order."""
    write_rows(path, map(_to_row, predictions), PREDICTION_SCHEMA)


def read_predictions(path: Path) -> list[Prediction]:
    """Reads predictions back; raises `KonerError` where the file is missing or holds something else."""
    try:
        return [_from_row(row) for row in read_rows(path)]
    except (KeyError, TypeError, pa.ArrowInvalid):
        raise KonerError(f"{path} holds no predictions of the evaluate stage") from None


def _to_row(p: Prediction) -> dict[str, Any]:
    return {
        "id": p.id,
        "text": p.text,
        "source": p.source,
        "gold": entity_rows(p.gold),
        "predicted": [{"start": e.start, "end": e.end, "label": e.label, "score": e.score} for e in p.found],
        "token_starts": [start for start, _ in p.offsets],
        "token_ends": [end for _, end in p.offsets],
        "gold_tags": list(p.gold_tags),
        "predicted_tags": list(p.predicted_tags),
        "token_scores": list(p.token_scores),
        "uncalibrated": list(p.uncalibrated),
    }


def _from_row(row: dict[str, Any]) -> Prediction:
    return Prediction(
        row["id"],
        row["text"],
        row["source"],
        entities_from_rows(row["gold"]),
        tuple(ScoredEntity(e["start"], e["end"], e["label"], e["score"]) for e in row["predicted"]),
        tuple(zip(row["token_starts"], row["token_ends"], strict=True)),
        tuple(row["gold_tags"]),
        tuple(row["predicted_tags"]),
        tuple(row["token_scores"]),
        tuple(row["uncalibrated"]),
    )
