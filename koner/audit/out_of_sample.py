"""Out-of-sample predictions: those of models that were not trained on the sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from koner.corpus.sentences import ENTITY_FIELDS, entities_to_rows, rows_to_entities
from koner.errors import KonerError
from koner.inference.decoding import ScoredEntity
from koner.inference.tagger import Tagger
from koner.labels.bio import Entity
from koner.labels.label_set import LabelSet
from koner.storage.parquet import read_rows, write_rows
from koner.tokens.alignment import AlignedSentence
from koner.tokens.spans import Span

_CHUNK = 512  # sentences
OUT_OF_SAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("gold", pa.list_(pa.struct(ENTITY_FIELDS))),
        ("predicted", pa.list_(pa.struct([*ENTITY_FIELDS, ("score", pa.float64())]))),
        ("token_starts", pa.list_(pa.int32())),
        ("token_ends", pa.list_(pa.int32())),
        ("gold_ids", pa.list_(pa.int32())),
        ("predicted_ids", pa.list_(pa.int32())),
        # Tokens × tags, row by row.
        ("probabilities", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class OutOfSample:
    """A sentence with its annotation, and what a model that was not trained on it predicts.

    Attributes:
        id: The id of the sentence.
        text: The sentence.
        gold: The annotated entities, in code points.
        predicted: The predicted entities, in code points.
        offsets: The span of each token, in code points.
        gold_ids: The id of the annotated tag of each token (tokens,).
        predicted_ids: The id of the predicted tag of each token (tokens,).
        probabilities: The probability of each tag (tokens, tags).
    """

    id: str
    text: str
    gold: tuple[Entity, ...]
    predicted: tuple[ScoredEntity, ...]
    offsets: tuple[Span, ...]
    gold_ids: np.ndarray
    predicted_ids: np.ndarray
    probabilities: np.ndarray


def predict_out_of_sample(
    tagger: Tagger, sentences: Iterable[AlignedSentence], labels: LabelSet
) -> Iterator[OutOfSample]:
    """Yield the predictions for sentences that the tagger's model was not trained on.

    Args:
        tagger: The tagger; its tags are those of `labels`, in the same order.
        sentences: The sentences, aligned to the tagger's tokens.
        labels: The label set of the corpus.

    Raises:
        KonerError: If the tagger splits a text into other tokens than those of the aligned sentence.
    """
    iterator = iter(sentences)
    while chunk := list(islice(iterator, _CHUNK)):
        logits = tagger.compute_logits([aligned.sentence.text for aligned in chunk])
        for aligned, tokens, tagged in zip(chunk, logits, tagger.decode_all(logits), strict=True):
            if len(aligned.windowed_text.offsets) != len(tokens.values):
                raise KonerError(
                    f"{aligned.sentence.id}: the model's tokenizer splits it into {len(tokens.values)} tokens, not "
                    f"into the {len(aligned.windowed_text.offsets)} of the data; run `dvc repro` for both"
                )
            yield OutOfSample(
                aligned.sentence.id,
                aligned.sentence.text,
                aligned.sentence.entities,
                tagged.entities,
                tuple(tokens.windowed_text.offsets),
                _tag_ids(aligned.token_tags, labels),
                _tag_ids(tagged.token_tags, labels),
                _softmax(tokens.values / tagger.settings.temperature),
            )


def _tag_ids(tags: Sequence[str], labels: LabelSet) -> np.ndarray:
    return np.array([labels.tag_to_id[tag] for tag in tags], np.int32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def write_out_of_sample(path: Path, predictions: Iterable[OutOfSample]) -> int:
    """Write predictions as Parquet (`OUT_OF_SAMPLE_SCHEMA`), in order, and return their number."""
    return write_rows(path, map(_to_row, predictions), OUT_OF_SAMPLE_SCHEMA)


def read_out_of_sample(path: Path) -> Iterator[OutOfSample]:
    """Yield the predictions that `write_out_of_sample` wrote.

    Raises:
        KonerError: If the file does not exist.
    """
    return map(_from_row, read_rows(path))


def _to_row(p: OutOfSample) -> dict[str, Any]:
    return {
        "id": p.id,
        "text": p.text,
        "gold": entities_to_rows(p.gold),
        "predicted": [{"start": e.start, "end": e.end, "label": e.label, "score": e.score} for e in p.predicted],
        "token_starts": [start for start, _ in p.offsets],
        "token_ends": [end for _, end in p.offsets],
        "gold_ids": p.gold_ids,
        "predicted_ids": p.predicted_ids,
        "probabilities": p.probabilities.ravel(),
    }


def _from_row(row: dict[str, Any]) -> OutOfSample:
    tokens = len(row["gold_ids"])
    return OutOfSample(
        row["id"],
        row["text"],
        rows_to_entities(row["gold"]),
        tuple(ScoredEntity(e["start"], e["end"], e["label"], e["score"]) for e in row["predicted"]),
        tuple(zip(row["token_starts"], row["token_ends"], strict=True)),
        np.array(row["gold_ids"], np.int32),
        np.array(row["predicted_ids"], np.int32),
        np.array(row["probabilities"], np.float32).reshape(tokens, -1),
    )
