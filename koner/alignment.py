"""Tags on characters to tags on a tokenizer's tokens, and back to exact characters."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from koner.corpus import SENTENCE_SCHEMA, Sentence, from_row, read_rows, to_row
from koner.errors import KonerError
from koner.labels import ID_TO_TAG, IGNORED, OUTSIDE, TAG_TO_ID, Entity, entities_of

Span = tuple[int, int]

RETAGGED_SCHEMA = SENTENCE_SCHEMA.append(
    pa.field(
        "windows",
        pa.list_(
            pa.struct(
                [
                    ("input_ids", pa.list_(pa.int32())),
                    ("labels", pa.list_(pa.int32())),
                    ("starts", pa.list_(pa.int32())),
                    ("ends", pa.list_(pa.int32())),
                ]
            )
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Window:
    """One model input: token ids and, for each, its span in the sentence (code points; empty for special tokens)."""

    input_ids: tuple[int, ...]
    offsets: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Encoded:
    """A sentence as windows that overlap where it is longer than one, with the windows put together again."""

    windows: tuple[Window, ...]

    @cached_property
    def tokens(self) -> list[tuple[int, int]]:
        """For each token of the sentence in order: the window and the position there that answer for it.

        A token of two windows is answered for by the one that holds more context on its scarcer side.
        """
        best: dict[Span, tuple[int, int, int]] = {}
        for w, window in enumerate(self.windows):
            last = len(window) - 1
            for p, span in enumerate(window.offsets):
                if span[0] == span[1]:
                    continue
                context = min(p, last - p)
                if span not in best or context > best[span][0]:
                    best[span] = (context, w, p)
        return [best[span][1:] for span in sorted(best)]

    @cached_property
    def offsets(self) -> list[Span]:
        """The span of each of the sentence's tokens, in order."""
        return [self.windows[w].offsets[p] for w, p in self.tokens]


@dataclass(frozen=True, slots=True)
class Retagged:
    """A sentence with its windows and the tag id of each of their tokens (-100 for special tokens)."""

    sentence: Sentence
    encoded: Encoded
    labels: tuple[tuple[int, ...], ...]

    @property
    def token_tags(self) -> list[str]:
        """The gold tag of each of the sentence's tokens, in order."""
        return [ID_TO_TAG[self.labels[w][p]] for w, p in self.encoded.tokens]


def most_tokens(config: PretrainedConfig) -> int:
    """The longest window that a model's position embeddings can take, in tokens."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return sys.maxsize
    # RoBERTa and its kin count from the padding id + 1.
    return int(positions - config.pad_token_id - 1 if "roberta" in config.model_type else positions)


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> list[Encoded]:
    """Tokenizes texts into windows of at most `max_length` tokens that overlap by `stride` tokens.

    Raises `KonerError` where the tokenizer can't tell offsets, or `stride` leaves a window no way forward.
    """
    if not texts:
        return []
    if not tokenizer.is_fast:
        raise KonerError("the base model's tokenizer can't tell offsets: it is not a fast tokenizer")
    if stride >= max_length - tokenizer.num_special_tokens_to_add():
        raise KonerError(f"stride: {stride} tokens leave no room to move in windows of max_length {max_length}")
    batch = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    windows: list[list[Window]] = [[] for _ in texts]
    for i, ids, offsets in zip(
        batch["overflow_to_sample_mapping"], batch["input_ids"], batch["offset_mapping"], strict=True
    ):
        windows[i].append(Window(tuple(ids), tuple(offsets)))
    return [Encoded(tuple(found)) for found in windows]


def labels_of(window: Window, tags: Sequence[str]) -> tuple[int, ...]:
    """Gives each token of a window the id of its first character's tag, special tokens -100."""
    return tuple(IGNORED if start == end else TAG_TO_ID[tags[start]] for start, end in window.offsets)


def retag(
    sentences: Sequence[Sentence], tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int
) -> list[Retagged]:
    """Aligns each sentence's character tags to the tokenizer's tokens: a token takes its first character's tag."""
    encoded = encode([sentence.text for sentence in sentences], tokenizer, max_length, stride)
    return [
        Retagged(sentence, e, tuple(labels_of(window, sentence.tags) for window in e.windows))
        for sentence, e in zip(sentences, encoded, strict=True)
    ]


def token_entities(tags: Sequence[str], offsets: Sequence[Span]) -> list[tuple[Entity, Span]]:
    """Reads entities off token tags as character spans, each with the half-open range of its tokens."""
    return [(Entity(offsets[e.start][0], offsets[e.end - 1][1], e.label), (e.start, e.end)) for e in entities_of(tags)]


def read_back(retagged: Retagged) -> list[Entity]:
    """The entities that perfect token predictions would give: the ceiling of any model on these tokens."""
    return [entity for entity, _ in token_entities(retagged.token_tags, retagged.encoded.offsets)]


def retagged_to_row(retagged: Retagged) -> dict[str, Any]:
    """Lays a retagged sentence out as a row of `RETAGGED_SCHEMA`."""
    windows = [
        {
            "input_ids": list(window.input_ids),
            "labels": list(labels),
            "starts": [start for start, _ in window.offsets],
            "ends": [end for _, end in window.offsets],
        }
        for window, labels in zip(retagged.encoded.windows, retagged.labels, strict=True)
    ]
    return {**to_row(retagged.sentence), "windows": windows}


def retagged_from_row(row: dict[str, Any]) -> Retagged:
    """Reads a retagged sentence back from a row of `RETAGGED_SCHEMA`."""
    windows = tuple(
        Window(tuple(w["input_ids"]), tuple(zip(w["starts"], w["ends"], strict=True))) for w in row["windows"]
    )
    return Retagged(from_row(row), Encoded(windows), tuple(tuple(w["labels"]) for w in row["windows"]))


def read_retagged(path: Path) -> Iterator[Retagged]:
    """Reads retagged sentences from a Parquet file of `RETAGGED_SCHEMA`, in order."""
    return map(retagged_from_row, read_rows(path))


def retag_rows(
    rows: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    stride: int,
    batch_size: int = 1_000,
) -> Iterator[Retagged]:
    """Retags rows of the canonical corpus batch by batch, in constant memory."""
    batch: list[Sentence] = []
    for row in rows:
        batch.append(from_row(row))
        if len(batch) == batch_size:
            yield from retag(batch, tokenizer, max_length, stride)
            batch = []
    yield from retag(batch, tokenizer, max_length, stride)


def types_in(tags: Sequence[str], span: Span) -> set[str]:
    """The entity types that stand on a token's characters."""
    return {tag[2:] for tag in tags[span[0] : span[1]] if tag != OUTSIDE}
