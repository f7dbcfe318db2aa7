"""Alignment of character tags to a tokenizer's tokens, and the rows that store it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from koner.corpus.sentences import SENTENCE_SCHEMA, Sentence, from_row, to_row
from koner.labels.bio import IGNORE_INDEX, OUTSIDE, Entity
from koner.labels.label_set import LabelSet
from koner.storage.parquet import read_rows, sample_rows
from koner.tokens.spans import tokens_to_entities
from koner.tokens.text_tokenizer import TextTokenizer
from koner.tokens.windows import Window, WindowedText, with_truncation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ALIGNED_SCHEMA = SENTENCE_SCHEMA.append(
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
# No character outside the Basic Multilingual Plane is whitespace.
_WHITESPACE = np.array([code for code in range(0x10000) if chr(code).isspace()], np.uint32)


@dataclass(frozen=True, slots=True)
class AlignedSentence:
    """A sentence, its windows, and the label id of each of their tokens (`IGNORE_INDEX` for special tokens)."""

    sentence: Sentence
    windowed_text: WindowedText
    labels: tuple[tuple[int, ...], ...]

    @property
    def token_tags(self) -> list[str]:
        """The gold BIO tag of each token of the sentence, in order: the tag of the token's first character."""
        return [self.sentence.tags[start] for start, _ in self.windowed_text.offsets]


@dataclass(frozen=True)
class AlignedBatch:
    """Aligned sentences as Arrow rows, with arrays to compute their oracle score from.

    Attributes:
        rows: The sentences, as rows of `ALIGNED_SCHEMA`.
        is_clean: Whether each sentence is clean (sentences,): every entity starts where a token starts and ends where
            a token ends, and no two tokens share a character. Perfect predictions then give exactly its entities.
        window_counts: The number of windows of each sentence (sentences,).
        token_ids: The ids of all tokens except special tokens (tokens,).
        token_sentences: The row of the sentence of each of these tokens (tokens,).
    """

    rows: pa.RecordBatch
    is_clean: np.ndarray
    window_counts: np.ndarray
    token_ids: np.ndarray
    token_sentences: np.ndarray


@dataclass(frozen=True)
class _Tokens:
    """The tokens of all windows of some sentences, in order and with special tokens.

    Attributes:
        ids: Token ids (tokens,).
        labels: Label ids (tokens,).
        starts: Offset of each token's first character in its sentence, in code points (tokens,).
        ends: Offset behind each token's last character (tokens,); equal to `starts` for special tokens.
        sentences: Index of each token's sentence (tokens,).
        window_lengths: Number of tokens of each window (windows,).
        window_counts: Number of windows of each sentence (sentences,).
        text_starts: Offset of each sentence in the concatenated texts, and their length at the end (sentences + 1,).
    """

    ids: np.ndarray
    labels: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    sentences: np.ndarray
    window_lengths: np.ndarray
    window_counts: np.ndarray
    text_starts: np.ndarray


def align(
    sentences: Sequence[Sentence],
    tokenizer: Tokenizer | PreTrainedTokenizerBase | TextTokenizer,
    max_length: int,
    stride: int,
    labels: LabelSet,
) -> list[AlignedSentence]:
    """Align the character tags of sentences to tokens; a token has the tag of its first character.

    Args:
        sentences: The sentences to align.
        tokenizer: The tokenizer of the base model.
        max_length: The length of a window, in tokens.
        stride: The number of tokens that neighbouring windows share.
        labels: The label set of the tags.

    Raises:
        KonerError: If the tokenizer does not report offsets, or `stride` is too large for `max_length`.
    """
    tokenizer = with_truncation(tokenizer, max_length, stride)
    if not sentences:
        return []
    tag_ids = np.array([labels.tag_to_id[tag] for sentence in sentences for tag in sentence.tags], np.int32)
    tokens = _align([sentence.text for sentence in sentences], tag_ids, tokenizer, labels)
    ids, label_ids = tokens.ids.tolist(), tokens.labels.tolist()
    offsets = list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True))
    windows = (slice(*bounds) for bounds in pairwise(np.cumsum([0, *tokens.window_lengths]).tolist()))
    aligned = []
    for sentence, count in zip(sentences, tokens.window_counts.tolist(), strict=True):
        slices = list(islice(windows, count))
        windowed_text = WindowedText(tuple(Window(tuple(ids[s]), tuple(offsets[s])) for s in slices))
        aligned.append(AlignedSentence(sentence, windowed_text, tuple(tuple(label_ids[s]) for s in slices)))
    return aligned


def align_batch(batch: pa.RecordBatch, tokenizer: TextTokenizer, labels: LabelSet) -> AlignedBatch:
    """Align the tags of a batch of sentences to tokens, as `align` does, without a Python object for each sentence.

    Args:
        batch: Rows of `SENTENCE_SCHEMA`, at least one.
        tokenizer: A tokenizer that `koner.tokens.windows.with_truncation` returned.
        labels: The label set of the tags.
    """
    tag_ids = pc.index_in(batch.column("tags").flatten(), value_set=pa.array(labels.tags)).to_numpy()
    tokens = _align(batch.column("text").to_pylist(), tag_ids, tokenizer, labels)
    rows = pa.RecordBatch.from_arrays([*batch.columns, _window_column(tokens)], schema=ALIGNED_SCHEMA)
    is_real = tokens.starts < tokens.ends
    is_clean = _find_clean_sentences(batch.column("entities"), tokens, is_real)
    return AlignedBatch(rows, is_clean, tokens.window_counts, tokens.ids[is_real], tokens.sentences[is_real])


def oracle_entities(aligned: AlignedSentence) -> list[Entity]:
    """Return the entities of perfect token predictions: no model on these tokens can do better."""
    return [entity for entity, _ in tokens_to_entities(aligned.token_tags, aligned.windowed_text.offsets)]


def aligned_to_row(aligned: AlignedSentence) -> dict[str, Any]:
    """Convert an aligned sentence to a row of `ALIGNED_SCHEMA`."""
    windows = [
        {
            "input_ids": list(window.input_ids),
            "labels": list(labels),
            "starts": [start for start, _ in window.offsets],
            "ends": [end for _, end in window.offsets],
        }
        for window, labels in zip(aligned.windowed_text.windows, aligned.labels, strict=True)
    ]
    return {**to_row(aligned.sentence), "windows": windows}


def aligned_from_row(row: dict[str, Any]) -> AlignedSentence:
    """Convert a row of `ALIGNED_SCHEMA` to an aligned sentence."""
    windows = tuple(
        Window(tuple(w["input_ids"]), tuple(zip(w["starts"], w["ends"], strict=True))) for w in row["windows"]
    )
    return AlignedSentence(from_row(row), WindowedText(windows), tuple(tuple(w["labels"]) for w in row["windows"]))


def read_aligned(path: Path) -> Iterator[AlignedSentence]:
    """Read the aligned sentences of a Parquet file of `ALIGNED_SCHEMA`, in order."""
    return map(aligned_from_row, read_rows(path))


def sample_aligned(path: Path, count: int) -> list[AlignedSentence]:
    """Read `count` aligned sentences of a Parquet file at even distances, or all if it has fewer."""
    return list(map(aligned_from_row, sample_rows(path, count)))


def _align(texts: Sequence[str], tag_ids: np.ndarray, tokenizer: TextTokenizer, label_set: LabelSet) -> _Tokens:
    """Tokenize texts into windows, and label each token with the tag of its first character.

    Args:
        texts: The texts, at least one.
        tag_ids: The tag id of each character of all texts together (characters,).
        tokenizer: A tokenizer that truncates, as `with_truncation` returns.
        label_set: The label set of the tags.
    """
    encodings = [(encoding, *encoding.overflowing) for encoding in tokenizer.encode_batch(texts)]
    windows = list(chain.from_iterable(encodings))
    window_lengths = np.array([len(window) for window in windows])
    window_counts = np.array([len(windows_of_text) for windows_of_text in encodings])
    sentences = np.repeat(np.repeat(np.arange(len(texts)), window_counts), window_lengths)
    ids = np.fromiter(chain.from_iterable(window.ids for window in windows), np.int32, len(sentences))
    pairs = chain.from_iterable(window.offsets for window in windows)
    offsets = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * len(sentences)).reshape(-1, 2)
    text_starts = np.cumsum([0, *map(len, texts)])
    base = text_starts[sentences]
    starts, ends = (offsets + base[:, None]).T
    starts, ends = _trim_whitespace(starts, ends, "".join(texts))
    # The tag behind the last one is read for special tokens at the end of the texts, and replaced.
    tags = np.append(tag_ids, label_set.tag_to_id[OUTSIDE])
    labels = np.where(starts < ends, tags[starts], IGNORE_INDEX)
    return _Tokens(ids, labels, starts - base, ends - base, sentences, window_lengths, window_counts, text_starts)


def _trim_whitespace(starts: np.ndarray, ends: np.ndarray, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Shorten spans (tokens,) so that none starts or ends with whitespace: a SentencePiece token has it in front."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    is_space = np.append(np.isin(codes, _WHITESPACE), False)
    while (leading := (starts < ends) & is_space[starts]).any():
        starts = starts + leading
    while (trailing := (starts < ends) & is_space[ends - 1]).any():
        ends = ends - trailing
    return starts, ends


def _find_clean_sentences(entities: pa.ListArray, tokens: _Tokens, is_real: np.ndarray) -> np.ndarray:
    """Compute `AlignedBatch.is_clean` from the entities of each sentence."""
    sentences = tokens.sentences[is_real]
    starts, ends = (values[is_real] + tokens.text_starts[sentences] for values in (tokens.starts, tokens.ends))
    starts_token, ends_token = np.zeros((2, tokens.text_starts[-1] + 1), bool)
    starts_token[starts], ends_token[ends] = True, True
    entity_sentences = np.repeat(np.arange(len(entities)), np.asarray(entities.value_lengths()))
    base = tokens.text_starts[entity_sentences]
    spans = entities.flatten()
    is_on_tokens = starts_token[spans.field("start").to_numpy() + base]
    is_on_tokens &= ends_token[spans.field("end").to_numpy() + base]
    is_clean = np.ones(len(entities), bool)
    is_clean[entity_sentences[~is_on_tokens]] = False
    is_clean[sentences[1:][starts[1:] < ends[:-1]]] = False
    return is_clean


def _window_column(tokens: _Tokens) -> pa.ListArray:
    """Build the column `windows` of `ALIGNED_SCHEMA`."""
    token_bounds, window_bounds = (
        pa.array(np.cumsum([0, *lengths]), pa.int32()) for lengths in (tokens.window_lengths, tokens.window_counts)
    )
    columns = (tokens.ids, tokens.labels, tokens.starts, tokens.ends)
    lists = [pa.ListArray.from_arrays(token_bounds, pa.array(column, pa.int32())) for column in columns]
    fields = list(ALIGNED_SCHEMA.field("windows").type.value_type)
    return pa.ListArray.from_arrays(window_bounds, pa.StructArray.from_arrays(lists, fields=fields))
