"""Raw text as packs of tokens: what masked-language-model training reads, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from koner.morphemes import TAGS, Analysed

# One row a token: its id, its word (within the pack; special tokens are none), its text, and the tags of the
# morphemes that its first and its last character belong to.
FIELDS = ("input_ids", "words", "documents", "first_tags", "last_tags")
NO_TAG = len(TAGS)
NO_WORD = -1


@dataclass(frozen=True)
class Document:
    """A text's tokens, [CLS] and [SEP] with them, as columns of equal length."""

    input_ids: np.ndarray
    words: np.ndarray
    first_tags: np.ndarray
    last_tags: np.ndarray


def document(analysed: Analysed, input_ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Document:
    """Lines a text's tokens up with its words (whitespace apart) and morphemes; offsets are code points of its text.

    `words` counts up from 0 in the order of the text; special tokens (empty offsets) have `NO_WORD` and `NO_TAG`.
    """
    text = analysed.text
    tag_of = np.full(len(text) + 1, NO_TAG, np.int16)
    last_of = np.full(len(text) + 1, NO_TAG, np.int16)
    # A contraction holds two morphemes in one syllable: it begins as the first, and ends as the last.
    for start, length, tag in reversed(analysed.morphemes):
        tag_of[start : start + max(length, 1)] = tag
    for start, length, tag in analysed.morphemes:
        last_of[start : start + max(length, 1)] = tag
    spaces = np.fromiter(map(str.isspace, text), bool, len(text))
    word_of = np.cumsum(spaces)
    starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    real = starts < ends
    first = np.where(real, tag_of[starts], NO_TAG)
    last = np.where(real, last_of[np.maximum(ends - 1, 0)], NO_TAG)
    words = np.where(real, np.append(word_of, 0)[starts], NO_WORD)
    return Document(np.asarray(input_ids, np.int32), words, first, last)


def pack(documents: Iterable[Document], length: int) -> Iterator[dict[str, np.ndarray]]:
    """Lays documents end to end and cuts them every `length` tokens; the last, short pack is left out."""
    columns: dict[str, list[np.ndarray]] = {field: [] for field in FIELDS}
    held = 0
    words = 0
    for number, d in enumerate(documents):
        columns["input_ids"].append(d.input_ids)
        columns["words"].append(np.where(d.words == NO_WORD, NO_WORD, d.words + np.int64(words)))
        columns["documents"].append(np.full(len(d.input_ids), number))
        columns["first_tags"].append(d.first_tags)
        columns["last_tags"].append(d.last_tags)
        words += int(d.words.max(initial=0)) + 1
        held += len(d.input_ids)
        if held >= length:
            whole = {field: np.concatenate(parts) for field, parts in columns.items()}
            used = held - held % length
            for start in range(0, used, length):
                yield {field: values[start : start + length] for field, values in whole.items()}
            columns = {field: [values[used:]] for field, values in whole.items()}
            held -= used


_KINDS = {"input_ids": np.int32, "words": np.int16, "documents": np.int16, "first_tags": np.int8, "last_tags": np.int8}


def write_packs(packs: Iterable[dict[str, np.ndarray]], length: int, folder: Path) -> int:
    """Writes packs to `folder`, a `.bin` file a field; words and documents count from 0 in each. Gives their number."""
    files = {field: (folder / f"{field}.bin").open("wb") for field in FIELDS}
    count = 0
    try:
        for p in packs:
            # No more words than tokens, however much space is between them; what is no word comes first.
            words = np.unique(np.append(p["words"], NO_WORD), return_inverse=True)[1][:-1] + NO_WORD
            p = {**p, "words": words, "documents": p["documents"] - p["documents"][0]}
            for field, file in files.items():
                file.write(p[field].astype(_KINDS[field]).tobytes())
            count += 1
    finally:
        for file in files.values():
            file.close()
    return count


class Packs(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The packs in a folder, memory-mapped: an item is a dict of int64 tensors (length,)."""

    def __init__(self, folder: Path, length: int) -> None:
        self.fields = {
            field: np.memmap(folder / f"{field}.bin", _KINDS[field], "r").reshape(-1, length) for field in FIELDS
        }

    def __len__(self) -> int:
        return len(self.fields["input_ids"])

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {field: torch.from_numpy(values[i].astype(np.int64)) for field, values in self.fields.items()}
