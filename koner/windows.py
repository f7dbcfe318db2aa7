"""The windows that training draws from, kept as flat arrays so that memory holds many."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from koner.alignment import Retagged, retag
from koner.augmentation import NAMES, augmented, read_names
from koner.corpus import StoredSentences
from koner.labels import IGNORED
from koner.params import Params
from koner.parquet import BATCH, count_rows, read_batches


class WindowDataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Windows as a collator takes them, `input_ids` and `labels`: 5 bytes a token and 8 a window."""

    def __init__(self, sentences: Iterable[Retagged] = ()) -> None:
        self._ids, self._labels, self._ends = array("i"), array("b"), array("q")
        self.extend(sentences)

    @classmethod
    def read(cls, path: Path) -> WindowDataset:
        """Reads the windows of a file of `RETAGGED_SCHEMA`, in order; raises `KonerError` where it is missing."""
        windows = cls()
        for batch in read_batches(path, ["windows"]):
            found = batch.column("windows").flatten()
            fields = dict(zip((field.name for field in found.type), found.flatten(), strict=True))
            ends = len(windows._ids) + np.cumsum(fields["input_ids"].value_lengths(), dtype=np.int64)
            windows._ids.frombytes(np.asarray(fields["input_ids"].flatten(), np.int32).tobytes())
            windows._labels.frombytes(np.asarray(fields["labels"].flatten(), np.int8).tobytes())
            windows._ends.frombytes(ends.tobytes())
        return windows

    def extend(self, sentences: Iterable[Retagged]) -> None:
        """Adds the windows of retagged sentences."""
        for r in sentences:
            for window, labels in zip(r.encoded.windows, r.labels, strict=True):
                self._ids.extend(window.input_ids)
                self._labels.extend(labels)
                self._ends.append(len(self._ids))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int | None) -> dict[str, list[int]]:
        """A window; for None a blank, with nothing in it to learn."""
        if i is None:
            return {"input_ids": [self._ids[0]], "labels": [IGNORED]}
        span = slice(self._ends[i - 1] if i else 0, self._ends[i])
        return {"input_ids": self._ids[span].tolist(), "labels": self._labels[span].tolist()}


def read_parts(params: Params, base: Path, split: Path) -> tuple[WindowDataset, WindowDataset, dict[str, int]]:
    """The windows of the training part, with those that `augment` adds, and of the development part.

    Counts the former's sentences too: those `written` and those `substituted`. Memory grows by the windows alone, and
    with `augment` by the spans of the sentences' common nouns.
    """
    training, development = (WindowDataset.read(split / f"{part}.parquet") for part in ("train", "development"))
    counts = {"written": count_rows(split / "train.parquet"), "substituted": 0}
    if params.augment:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        sentences = StoredSentences(split / "train.parquet")
        extra = augmented(sentences, read_names(NAMES, sentences), params.augment, params.seed)
        while batch := list(islice(extra, BATCH)):
            training.extend(retag(batch, tokenizer, params.max_length, params.stride, params.boundaries))
            counts["substituted"] += len(batch)
    return training, development, counts
