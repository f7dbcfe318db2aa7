"""Text to windows of tokens, as a model reads them, and the windows put together again. Needs no model."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Encoding, Tokenizer

from koner.errors import KonerError
from koner.sentences import sentence_spans

Span = tuple[int, int]

_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


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


def most_tokens(config: Mapping[str, Any]) -> int:
    """The longest window that a model's position embeddings can take, in tokens; `config` as in its config.json."""
    positions = config.get("max_position_embeddings")
    if not positions or positions < 0:
        return sys.maxsize
    # RoBERTa and its kin count from the padding id + 1.
    return int(positions - config["pad_token_id"] - 1 if "roberta" in config["model_type"] else positions)


def windowed(tokenizer: Tokenizer, max_length: int, stride: int) -> Tokenizer:
    """A copy of a tokenizer, set to what `encode` needs, so that `encode` need not make one at every call.

    Raises `KonerError` where `stride` leaves a window no way forward.
    """
    if stride >= max_length - tokenizer.num_special_tokens_to_add(False):
        raise KonerError(f"stride: {stride} tokens leave no room to move in windows of max_length {max_length}")
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.enable_truncation(**_truncation(max_length, stride))
    return copy


def _truncation(max_length: int, stride: int) -> dict[str, Any]:
    return {"max_length": max_length, "stride": stride, "strategy": "longest_first", "direction": "right"}


def encode(texts: Sequence[str], tokenizer: Tokenizer, max_length: int, stride: int) -> list[Encoded]:
    """Tokenizes texts into windows of at most `max_length` tokens that overlap by `stride` tokens.

    No token's span begins or ends with whitespace. The tokenizer is left as it is, so that threads may share it.
    Raises `KonerError` where `stride` leaves a window no way forward.
    """
    if tokenizer.padding or tokenizer.truncation != _truncation(max_length, stride):
        tokenizer = windowed(tokenizer, max_length, stride)
    read = [readable(text) for text in texts]
    return [
        Encoded(tuple(_windows(text, encoding)))
        for text, encoding in zip(read, tokenizer.encode_batch(read), strict=True)
    ]


def readable(text: str) -> str:
    """A text of the same length without lone surrogates, code points that no tokenizer takes."""
    return _SURROGATE.sub(_REPLACEMENT, text)


def encode_by_sentence(texts: Sequence[str], tokenizer: Tokenizer, max_length: int, stride: int) -> list[Encoded]:
    """Tokenizes texts as `encode` does, but each of their sentences apart: no window holds two.

    The tokens are those of the whole text, whitespace being all that tokenizers look at across a sentence's end.
    """
    spans = [sentence_spans(text) for text in texts]
    sentences = [text[start:end] for text, found in zip(texts, spans, strict=True) for start, end in found]
    encoded = iter(encode(sentences, tokenizer, max_length, stride))
    return [
        Encoded(
            tuple(
                Window(window.input_ids, tuple((start + a, start + b) for a, b in window.offsets))
                for start, _ in found
                for window in next(encoded).windows
            )
        )
        for found in spans
    ]


def _windows(text: str, encoding: Encoding) -> Iterator[Window]:
    for window in (encoding, *encoding.overflowing):
        yield Window(tuple(window.ids), tuple(_trimmed(text, start, end) for start, end in window.offsets))


def _trimmed(text: str, start: int, end: int) -> Span:
    # SentencePiece's tokens hold the space before a word.
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
