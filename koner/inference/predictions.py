"""Predictions with their gold annotations, as the stage evaluate stores them and the scorers read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from koner.corpus.sentences import ENTITY_FIELDS, entities_to_rows, rows_to_entities
from koner.errors import KonerError
from koner.inference.tagger import ScoredEntity, TaggedText, Tagger
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.storage.parquet import read_rows, write_rows
from koner.tokens.alignment import AlignedSentence
from koner.tokens.spans import Span

_CHUNK = 512  # sentences per update of the progress bar
# Of the metadata of a file.
_LABELS_KEY = b"koner_labels"
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
    """A sentence with its annotated and its predicted entities; all spans are in code points of the text.

    Attributes:
        id: The id of the sentence.
        text: The sentence.
        source: The source that the data set names, if any.
        gold: The annotated entities.
        scored_entities: The predicted entities with their scores.
        offsets: The span of each token.
        gold_tags: The annotated BIO tag of each token.
        predicted_tags: The predicted BIO tag of each token.
        token_scores: The probability of the predicted tag of each token.
        uncalibrated: The score of each predicted entity at temperature 1.
    """

    id: str
    text: str
    source: str | None
    gold: tuple[Entity, ...]
    scored_entities: tuple[ScoredEntity, ...]
    offsets: tuple[Span, ...]
    gold_tags: tuple[str, ...]
    predicted_tags: tuple[str, ...]
    token_scores: tuple[float, ...]
    uncalibrated: tuple[float, ...] = ()

    @property
    def predicted(self) -> tuple[Entity, ...]:
        """The predicted entities without their scores."""
        return tuple(Entity(e.start, e.end, e.label) for e in self.scored_entities)


def predict(tagger: Tagger, sentences: Sequence[AlignedSentence]) -> list[Prediction]:
    """Tag the texts of sentences as the service would.

    Args:
        tagger: The tagger.
        sentences: The sentences, aligned to the tagger's tokens.

    Returns:
        The prediction for each sentence, in order.

    Raises:
        KonerError: If the tagger splits a text into other tokens than those of the aligned sentence.
    """
    predictions: list[Prediction] = []
    with tqdm(total=len(sentences), desc="tag", unit=" sentences", mininterval=1) as bar:
        for start in range(0, len(sentences), _CHUNK):
            chunk = sentences[start : start + _CHUNK]
            texts = [aligned.sentence.text for aligned in chunk]
            logits = tagger.compute_logits(texts)
            tagged = [tagger.decode_all(logits, temperature) for temperature in (None, 1.0)]
            predictions += map(_to_prediction, chunk, *tagged)
            bar.update(len(chunk))
    return predictions


def _to_prediction(aligned: AlignedSentence, tagged: TaggedText, uncalibrated: TaggedText) -> Prediction:
    sentence = aligned.sentence
    expected_tokens = len(aligned.windowed_text.token_positions)
    if len(tagged.token_tags) != expected_tokens:
        raise KonerError(
            f"{sentence.id}: the model's tokenizer splits it into {len(tagged.token_tags)} tokens, not into the "
            f"{expected_tokens} of the data; run `dvc repro`"
        )
    return Prediction(
        sentence.id,
        sentence.text,
        sentence.source,
        sentence.entities,
        tagged.entities,
        tuple(aligned.windowed_text.offsets),
        tuple(aligned.token_tags),
        tagged.token_tags,
        tagged.token_scores,
        tuple(e.score for e in uncalibrated.entities),
    )


def write_predictions(path: Path, predictions: Iterable[Prediction], labels: LabelSet) -> None:
    """Write predictions as Parquet (`PREDICTION_SCHEMA`), in order, with the model's label set as metadata."""
    schema = PREDICTION_SCHEMA.with_metadata({_LABELS_KEY: json.dumps(labels.types)})
    write_rows(path, map(_to_row, predictions), schema)


def read_label_set(path: Path) -> LabelSet:
    """Return the label set of the predictions in a file; that of KLUE-NER for a file that names none.

    Raises:
        KonerError: If the file holds something else.
    """
    try:
        types = (pq.read_schema(path).metadata or {}).get(_LABELS_KEY)
        # The first versions had no other labels.
        return KLUE if types is None else LabelSet(tuple(json.loads(types)))
    except (OSError, ValueError, TypeError, pa.ArrowInvalid):
        raise KonerError(f"{path} holds no predictions of the stage evaluate") from None


def read_predictions(path: Path) -> list[Prediction]:
    """Read the predictions that `write_predictions` wrote.

    Raises:
        KonerError: If the file is missing or holds something else.
    """
    try:
        return [_from_row(row) for row in read_rows(path)]
    except (KeyError, TypeError, pa.ArrowInvalid):
        raise KonerError(f"{path} holds no predictions of the stage evaluate") from None


def _to_row(p: Prediction) -> dict[str, Any]:
    return {
        "id": p.id,
        "text": p.text,
        "source": p.source,
        "gold": entities_to_rows(p.gold),
        "predicted": [{"start": e.start, "end": e.end, "label": e.label, "score": e.score} for e in p.scored_entities],
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
        rows_to_entities(row["gold"]),
        tuple(ScoredEntity(e["start"], e["end"], e["label"], e["score"]) for e in row["predicted"]),
        tuple(zip(row["token_starts"], row["token_ends"], strict=True)),
        tuple(row["gold_tags"]),
        tuple(row["predicted_tags"]),
        tuple(row["token_scores"]),
        tuple(row["uncalibrated"]),
    )
