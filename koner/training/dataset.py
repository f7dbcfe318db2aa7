"""The data set of training: windows in flat arrays, which keep memory small."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from koner.corpus.parts import DEVELOPMENT, TRAIN
from koner.corpus.sentences import StoredSentences
from koner.labels.bio import IGNORE_INDEX
from koner.labels.label_set import LabelSet
from koner.params import Params
from koner.resources import NAMES
from koner.storage.parquet import BATCH, count_rows, read_batches
from koner.tokens.alignment import AlignedSentence, align
from koner.training.augmentation import augment_sentences, read_names


class WindowDataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Windows with `input_ids` and `labels`, as a data collator takes them: 6 bytes a token and 8 bytes a window."""

    def __init__(self, sentences: Iterable[AlignedSentence] = ()) -> None:
        """Create a data set with the windows of aligned sentences."""
        self._ids, self._labels, self._ends = array("i"), array("h"), array("q")
        self.extend(sentences)

    @classmethod
    def read(cls, path: Path) -> WindowDataset:
        """Return the windows of a Parquet file with the schema `ALIGNED_SCHEMA`, in order.

        Raises:
            KonerError: If the file does not exist.
        """
        dataset = cls()
        for batch in read_batches(path, ["windows"]):
            windows = batch.column("windows").flatten()
            fields = dict(zip((field.name for field in windows.type), windows.flatten(), strict=True))
            ends = len(dataset._ids) + np.cumsum(fields["input_ids"].value_lengths(), dtype=np.int64)
            dataset._ids.frombytes(np.asarray(fields["input_ids"].flatten(), np.int32).tobytes())
            dataset._labels.frombytes(np.asarray(fields["labels"].flatten(), np.int16).tobytes())
            dataset._ends.frombytes(ends.tobytes())
        return dataset

    def extend(self, sentences: Iterable[AlignedSentence]) -> None:
        """Append the windows of aligned sentences."""
        for sentence in sentences:
            for window, labels in zip(sentence.windowed_text.windows, sentence.labels, strict=True):
                self._ids.extend(window.input_ids)
                self._labels.extend(labels)
                self._ends.append(len(self._ids))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int | None) -> dict[str, list[int]]:
        """Return a window; for None, a blank one, whose only token has no label."""
        if i is None:
            return {"input_ids": [self._ids[0]], "labels": [IGNORE_INDEX]}
        span = slice(self._ends[i - 1] if i else 0, self._ends[i])
        return {"input_ids": self._ids[span].tolist(), "labels": self._labels[span].tolist()}


def read_parts(
    params: Params, base: Path, split: Path, labels: LabelSet
) -> tuple[WindowDataset, WindowDataset, dict[str, int]]:
    """Return the training windows, including augmented ones, the development windows, and numbers of sentences.

    Memory grows with the windows, and with augmentation also with the spans of the sentences' common nouns.

    Args:
        params: The parameters of the pipeline.
        base: The folder of the base model, whose tokenizer reads augmented sentences.
        split: The folder of the parts.
        labels: The label set of the corpus.

    Returns:
        The two data sets, and the numbers of training sentences: `written` (in the corpus) and `substituted` (by
        augmentation).
    """
    training, development = (WindowDataset.read(split / f"{part}.parquet") for part in (TRAIN, DEVELOPMENT))
    counts = {"written": count_rows(split / f"{TRAIN}.parquet"), "substituted": 0}
    if params.augment:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        sentences = StoredSentences(split / f"{TRAIN}.parquet")
        augmented = augment_sentences(sentences, read_names(NAMES, sentences), params.augment, params.seed)
        while batch := list(islice(augmented, BATCH)):
            training.extend(align(batch, tokenizer, params.max_length, params.stride, labels))
            counts["substituted"] += len(batch)
    return training, development, counts
