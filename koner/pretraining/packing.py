"""Sequence packing: documents of tokens laid end to end in packs of equal length, on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from koner.labels.bio import IGNORE_INDEX
from koner.text.morphemes import TAGS, AnalysedText

_DTYPES = {
    "input_ids": np.int32,
    "words": np.int16,
    "documents": np.int16,
    "first_tags": np.int8,
    "last_tags": np.int8,
    "weak_labels": np.int8,
}
# The fields of a token: its id, the number of its word and of its document in the pack, the tags of the morphemes that
# its first and its last character belong to, and its weak label.
FIELDS = tuple(_DTYPES)
# For special tokens, and for characters that belong to no morpheme.
NO_TAG = len(TAGS)
NO_WORD = -1


@dataclass(frozen=True)
class Document:
    """The tokens of a text, [CLS] and [SEP] included, as columns (tokens,)."""

    input_ids: np.ndarray
    words: np.ndarray
    first_tags: np.ndarray
    last_tags: np.ndarray
    weak_labels: np.ndarray


def make_document(
    analysed: AnalysedText,
    input_ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    weak_tags: np.ndarray | None = None,
) -> Document:
    """Align the tokens of a text to its words, which whitespace separates, to its morphemes and to its weak labels.

    Args:
        analysed: The text and its morphemes.
        input_ids: The id of each token.
        offsets: The span of each token in code points of the text; an empty span for special tokens.
        weak_tags: The weak label of each code point; None if there are none.

    Returns:
        The document. Its words count from 0 in the order of the text; special tokens have `NO_WORD` and `NO_TAG`. The
        label of a token is that of its first character, and `IGNORE_INDEX` for special tokens.
    """
    text = analysed.text
    first_tag_of = np.full(len(text) + 1, NO_TAG, np.int16)
    last_tag_of = np.full(len(text) + 1, NO_TAG, np.int16)
    # A contraction is one syllable with two morphemes: its first tag is that of the first, its last tag of the second.
    for start, length, tag in reversed(analysed.morphemes):
        first_tag_of[start : start + max(length, 1)] = tag
    for start, length, tag in analysed.morphemes:
        last_tag_of[start : start + max(length, 1)] = tag
    word_of = np.cumsum(np.fromiter(map(str.isspace, text), bool, len(text)))
    starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    is_real = starts < ends
    first_tags = np.where(is_real, first_tag_of[starts], NO_TAG)
    last_tags = np.where(is_real, last_tag_of[np.maximum(ends - 1, 0)], NO_TAG)
    words = np.where(is_real, np.append(word_of, 0)[starts], NO_WORD)
    label_of = np.full(len(text) + 1, IGNORE_INDEX) if weak_tags is None else np.append(weak_tags, IGNORE_INDEX)
    labels = np.where(is_real, label_of[starts], IGNORE_INDEX)
    return Document(np.asarray(input_ids, np.int32), words, first_tags, last_tags, labels)


def pack_documents(documents: Iterable[Document], length: int) -> Iterator[dict[str, np.ndarray]]:
    """Concatenate documents and yield packs of `length` tokens; the rest after the last full pack is dropped.

    Words and documents are numbered over all packs.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in FIELDS}
    pending_tokens = 0
    word_count = 0
    for number, document in enumerate(documents):
        columns["input_ids"].append(document.input_ids)
        words = np.where(document.words == NO_WORD, NO_WORD, document.words + np.int64(word_count))
        columns["words"].append(words)
        columns["documents"].append(np.full(len(document.input_ids), number))
        columns["first_tags"].append(document.first_tags)
        columns["last_tags"].append(document.last_tags)
        columns["weak_labels"].append(document.weak_labels)
        word_count += int(document.words.max(initial=0)) + 1
        pending_tokens += len(document.input_ids)
        if pending_tokens >= length:
            pending = {name: np.concatenate(parts) for name, parts in columns.items()}
            used = pending_tokens - pending_tokens % length
            for start in range(0, used, length):
                yield {name: values[start : start + length] for name, values in pending.items()}
            columns = {name: [values[used:]] for name, values in pending.items()}
            pending_tokens -= used


def write_packs(packs: Iterable[dict[str, np.ndarray]], folder: Path) -> int:
    """Write packs to a folder, a `.bin` file for each field; words and documents count from 0 in each pack.

    Returns:
        The number of packs.
    """
    count = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in FIELDS}
        for pack in packs:
            # Number words without gaps, so that they are no more than tokens. NO_WORD is the least number and stays.
            words = np.unique(np.append(pack["words"], NO_WORD), return_inverse=True)[1][:-1] + NO_WORD
            fields = {**pack, "words": words, "documents": pack["documents"] - pack["documents"][0]}
            for name, file in files.items():
                file.write(fields[name].astype(_DTYPES[name]).tobytes())
            count += 1
    return count


class PackedDataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The packs in a folder, memory-mapped.

    Args:
        folder: The folder that `write_packs` wrote to.
        length: The length of a pack, in tokens.

    Attributes:
        fields: The values of each field (packs, tokens).
    """

    def __init__(self, folder: Path, length: int) -> None:
        self.fields = {
            name: np.memmap(folder / f"{name}.bin", dtype, "r").reshape(-1, length) for name, dtype in _DTYPES.items()
        }

    def __len__(self) -> int:
        return len(self.fields["input_ids"])

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Return a pack: an int64 tensor (tokens,) for each field."""
        return {name: torch.from_numpy(values[i].astype(np.int64)) for name, values in self.fields.items()}
