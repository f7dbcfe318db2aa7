"""Tags on characters to tags on a tokenizer's tokens, and back to exact characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tokenizers import Tokenizer

from koner.boundaries import LABEL_TO_ID, LABELS, tag_of, token_label
from koner.corpus import SENTENCE_SCHEMA, Sentence, from_row, to_row
from koner.decoding import token_entities
from koner.encoding import Encoded, Span, Window, encode
from koner.errors import KonerError
from koner.labels import IGNORED, OUTSIDE, TAG_TO_ID, Entity
from koner.parquet import read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
class Retagged:
    """A sentence with its windows and the label id of each of their tokens (-100 for special tokens)."""

    sentence: Sentence
    encoded: Encoded
    labels: tuple[tuple[int, ...], ...]

    @property
    def token_tags(self) -> list[str]:
        """The gold BIO tag of each of the sentence's tokens, in order: that of its first character."""
        return [tag_of(label) for label in self.token_labels]

    @property
    def token_labels(self) -> list[str]:
        """The gold label of each of the sentence's tokens, in order."""
        return [LABELS[self.labels[w][p]] for w, p in self.encoded.tokens]


def labels_of(window: Window, tags: Sequence[str], boundaries: bool) -> tuple[int, ...]:
    """Gives each token of a window the id of its label, special tokens -100.

    With `boundaries` a label says where inside the token its entity ends, else it is the first character's tag.
    """
    if boundaries:
        return tuple(IGNORED if s == e else LABEL_TO_ID[token_label(tags[s:e])] for s, e in window.offsets)
    return tuple(IGNORED if start == end else TAG_TO_ID[tags[start]] for start, end in window.offsets)


def retag(
    sentences: Sequence[Sentence],
    tokenizer: Tokenizer | PreTrainedTokenizerBase,
    max_length: int,
    stride: int,
    boundaries: bool = False,
) -> list[Retagged]:
    """Aligns each sentence's character tags to the tokenizer's tokens, as `labels_of` does.

    Raises `KonerError` where the tokenizer can't tell offsets, or `stride` leaves a window no way forward.
    """
    encoded = encode([sentence.text for sentence in sentences], backend_of(tokenizer), max_length, stride)
    return [
        Retagged(sentence, e, tuple(labels_of(window, sentence.tags, boundaries) for window in e.windows))
        for sentence, e in zip(sentences, encoded, strict=True)
    ]


def backend_of(tokenizer: Tokenizer | PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer that tells offsets; raises `KonerError` where there is none behind a transformers tokenizer."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if not tokenizer.is_fast:
        raise KonerError("the base model's tokenizer can't tell offsets: it is not a fast tokenizer")
    backend: Tokenizer = tokenizer.backend_tokenizer
    return backend


def read_back(retagged: Retagged) -> list[Entity]:
    """The entities that perfect token predictions would give: the ceiling of any model on these tokens."""
    return [entity for entity, _ in token_entities(retagged.token_labels, retagged.encoded.offsets)]


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


def types_in(tags: Sequence[str], span: Span) -> set[str]:
    """The entity types that stand on a token's characters."""
    return {tag[2:] for tag in tags[span[0] : span[1]] if tag != OUTSIDE}
