"""The division of a training part into folds, each of which is held out from the training of one model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from koner.corpus.sentences import Sentence
from koner.errors import KonerError
from koner.labels.label_set import LabelSet
from koner.storage.parquet import read_rows, write_rows

FOLD_SCHEMA = pa.schema([("id", pa.string()), ("fold", pa.int32())])


@dataclass(frozen=True)
class DistinctTexts:
    """The different texts of a corpus, with what stratification needs of them.

    Attributes:
        groups: The text of each sentence, as a row of `presence` (sentences,).
        presence: Whether each text has each type, and in the last column whether it has none (texts, types + 1).
    """

    groups: np.ndarray
    presence: np.ndarray

    @classmethod
    def of(cls, sentences: Sequence[Sentence], labels: LabelSet) -> DistinctTexts:
        """Find the different texts of sentences, in the order in which they occur first."""
        rows: dict[str, int] = {}
        groups = np.array([rows.setdefault(sentence.text, len(rows)) for sentence in sentences], np.intp)
        presence = np.zeros((len(rows), len(labels.types) + 1), np.int8)
        for group, sentence in zip(groups.tolist(), sentences, strict=True):
            presence[group, [labels.type_to_id[entity.label] for entity in sentence.entities]] = 1
        presence[:, -1] = ~presence[:, :-1].any(axis=1)
        return cls(groups, presence)


def assign_folds(sentences: Sequence[Sentence], labels: LabelSet, folds: Sequence[int], seed: int) -> np.ndarray:
    """Return the fold of each sentence (sentences,).

    The folds are stratified over all types at once (iterative stratification, Sechidis et al. 2011). Sentences of the
    same text are in the same fold, or the model that judges one of them would have been trained on another.

    Args:
        sentences: The sentences.
        labels: The label set of the sentences.
        folds: The names of the folds, at least two.
        seed: The seed of the division.

    Raises:
        KonerError: If there are more folds than texts with one of the types.
    """
    texts = DistinctTexts.of(sentences, labels)
    counts = Counter(dict(zip(labels.types, texts.presence[:, :-1].sum(axis=0).tolist(), strict=True)))
    for type_, count in counts.items():
        if 0 < count < len(folds):
            raise KonerError(
                f"folds: {len(folds)} is not allowed: the type {type_} is in {count} different sentences only, and "
                "each fold needs one; set fewer folds, or drop the type by `label_map` in the pipeline's params.yaml"
            )
    splitter = MultilabelStratifiedKFold(n_splits=len(folds), shuffle=True, random_state=seed)
    fold_of_text = np.empty(len(texts.presence), np.int32)
    for fold, (_, held_out) in zip(folds, splitter.split(texts.presence, texts.presence), strict=True):
        fold_of_text[held_out] = fold
    fold_of_sentence: np.ndarray = fold_of_text[texts.groups]
    return fold_of_sentence


def write_folds(path: Path, sentences: Sequence[Sentence], folds: np.ndarray) -> None:
    """Write the fold of each sentence as Parquet (`FOLD_SCHEMA`), in order."""
    rows = ({"id": s.id, "fold": fold} for s, fold in zip(sentences, folds.tolist(), strict=True))
    write_rows(path, rows, FOLD_SCHEMA)


def read_folds(path: Path) -> np.ndarray:
    """Return the fold of each sentence (sentences,), as `write_folds` wrote it.

    Raises:
        KonerError: If the file does not exist.
    """
    return np.array([row["fold"] for row in read_rows(path)], np.int32)
