"""Windows of tokens, as a model reads them. Needs no model and no transformers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from koner.text.sentences import sentence_spans
from koner.tokens.spans import Span
from koner.tokens.text_tokenizer import TextTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Window:
    """One model input: token ids, and the span of each token in the text (code points; empty for special tokens)."""

    input_ids: tuple[int, ...]
    offsets: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class WindowedText:
    """The windows of a text, in order; the windows of a text longer than one window overlap."""

    windows: tuple[Window, ...]

    @cached_property
    def token_positions(self) -> list[tuple[int, int]]:
        """The window of each token of the text, in order, and the position of the token in this window.

        Of the windows that share a token, this is the one with the most context on the side where it has less.
        """
        return [(window, position) for _, window, position in self._tokens]

    @cached_property
    def offsets(self) -> list[Span]:
        """The span of each token of the text, in order."""
        return [span for span, _, _ in self._tokens]

    @cached_property
    def token_rows(self) -> np.ndarray:
        """The row of each token of the text (tokens,), in order, among the tokens of all windows."""
        starts = list(accumulate(map(len, self.windows), initial=0))
        return np.array([starts[window] + position for _, window, position in self._tokens], np.intp)

    @cached_property
    def _tokens(self) -> list[tuple[Span, int, int]]:
        """The span of each token of the text, in order, its window, and its position there."""
        tokens = [
            (span, index, position)
            for index, window in enumerate(self.windows)
            for position, span in enumerate(window.offsets)
            if span[0] < span[1]
        ]
        # Most texts have no token in two windows.
        if all(before[0] < after[0] for before, after in pairwise(tokens)):
            return tokens
        best: dict[Span, tuple[int, int, int]] = {}
        for span, index, position in tokens:
            context = min(position, len(self.windows[index]) - 1 - position)
            if span not in best or context > best[span][0]:
                best[span] = (context, index, position)
        return [(span, *best[span][1:]) for span in sorted(best)]

    @property
    def token_ids(self) -> list[int]:
        """The id of each token of the text, in order."""
        return [self.windows[window].input_ids[position] for window, position in self.token_positions]


def first_position(config: Mapping[str, Any]) -> int:
    """Return the position of the first token of a window: the padding id + 1 for RoBERTa and its relatives, else 0.

    Args:
        config: The model's configuration, as its config.json holds it.
    """
    return int(config["pad_token_id"]) + 1 if "roberta" in config["model_type"] else 0


def max_window_length(config: Mapping[str, Any]) -> int:
    """Return the length of the longest window that a model's position embeddings allow, in tokens.

    Args:
        config: The model's configuration, as its config.json holds it.
    """
    positions = config.get("max_position_embeddings")
    if not positions or positions < 0:
        return sys.maxsize
    return int(positions) - first_position(config)


def with_truncation(
    tokenizer: Tokenizer | PreTrainedTokenizerBase | TextTokenizer, max_length: int, stride: int
) -> TextTokenizer:
    """Return a tokenizer that cuts texts into windows: a copy, unless it does so already.

    Args:
        tokenizer: The tokenizer; it is not changed.
        max_length: The length of a window, in tokens.
        stride: The number of tokens that neighbouring windows share.

    Raises:
        KonerError: If the tokenizer does not report offsets, or `stride` leaves no new tokens for the next window.
    """
    if isinstance(tokenizer, TextTokenizer) and (tokenizer.max_length, tokenizer.stride) == (max_length, stride):
        return tokenizer
    return TextTokenizer(tokenizer, max_length, stride)


def encode(
    texts: Sequence[str], tokenizer: Tokenizer | TextTokenizer, max_length: int, stride: int
) -> list[WindowedText]:
    """Tokenize texts into windows of at most `max_length` tokens that overlap by `stride` tokens.

    No token's span begins or ends with whitespace. The tokenizer is not changed, so that threads may share it. It is
    copied, unless `with_truncation` returned it.

    Raises:
        KonerError: If `stride` leaves no new tokens for the next window.
    """
    encodings = with_truncation(tokenizer, max_length, stride).encode_batch(texts)
    return [WindowedText(tuple(_windows(text, encoding))) for text, encoding in zip(texts, encodings, strict=True)]


def encode_by_sentence(
    texts: Sequence[str], tokenizer: Tokenizer | TextTokenizer, max_length: int, stride: int
) -> list[WindowedText]:
    """Tokenize texts as `encode` does, but each sentence of a text by itself: no window contains two sentences.

    The tokens are those of the whole text: tokenizers look at nothing but whitespace across the end of a sentence.
    """
    spans = [sentence_spans(text) for text in texts]
    sentences = [text[start:end] for text, text_spans in zip(texts, spans, strict=True) for start, end in text_spans]
    windowed_sentences = iter(encode(sentences, tokenizer, max_length, stride))
    return [
        WindowedText(
            tuple(
                Window(window.input_ids, tuple((start + a, start + b) for a, b in window.offsets)) if start else window
                for start, _ in text_spans
                for window in next(windowed_sentences).windows
            )
        )
        for text_spans in spans
    ]


def _windows(text: str, encoding: Encoding) -> Iterator[Window]:
    for window in (encoding, *encoding.overflowing):
        yield Window(tuple(window.ids), tuple(_trim_whitespace(text, start, end) for start, end in window.offsets))


def _trim_whitespace(text: str, start: int, end: int) -> Span:
    # The tokens of SentencePiece contain the space before a word.
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
