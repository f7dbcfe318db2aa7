"""A tokenizer for texts of users: every character of a text is text, whatever the rules of the tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenizers import Encoding, Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordPiece

from koner.errors import KonerError
from koner.tokens.long_words import cut_long_words, may_have_long_word

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A code point that is not a character. It is replaced in texts, and so no text contains a token that begins with it.
CONTROL_MARK = "\U0010ffff"
# No tokenizer accepts lone surrogates.
_UNREADABLE = re.compile(f"[\ud800-\udfff{CONTROL_MARK}]")
_REPLACEMENT = "\ufffd"
_UNLIMITED = 1 << 30


class TextTokenizer:
    """A copy of a tokenizer, with the same ids, that reads texts of users into windows of tokens.

    It differs from the original in this:

    - The names of control tokens, such as `[SEP]` or `<s>`, are text. The original reads them as these tokens.
    - WordPiece reads words of any length. The original reads a word of more than 100 characters as one unknown token.
    - BPE and Unigram read each unknown character as a token of its own. The original joins those beside each other.
    - BPE reads the same text always as the same tokens. The original may draw tokens at random (BPE dropout).

    Args:
        tokenizer: The tokenizer; it is not changed.
        max_length: The length of a window, in tokens; None for one window of any length.
        stride: The number of tokens that neighbouring windows share.

    Raises:
        KonerError: If the tokenizer does not report offsets, or `stride` leaves no new tokens for the next window.
    """

    def __init__(
        self, tokenizer: Tokenizer | PreTrainedTokenizerBase | TextTokenizer, max_length: int | None, stride: int = 0
    ) -> None:
        original = _fast_backend(tokenizer)
        if max_length is not None and stride >= max_length - original.num_special_tokens_to_add(False):
            raise KonerError(
                f"stride: windows of max_length {max_length} can't share {stride} tokens: set stride lower or "
                "max_length higher"
            )
        self.max_length, self.stride = max_length, stride
        self.backend = _read_all_as_text(original)
        self.backend.no_padding()
        self.backend.no_truncation()
        if max_length is not None:
            self.backend.enable_truncation(max_length, stride=stride)

    @property
    def text_token_ids(self) -> list[int]:
        """The ids of the tokens that texts consist of, in order: of all but the control tokens."""
        return sorted(i for token, i in self.backend.get_vocab().items() if not token.startswith(CONTROL_MARK))

    @cached_property
    def _long_words_backend(self) -> Tokenizer:
        return cut_long_words(self.backend)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenize texts; the windows of a text after its first are in `overflowing` of its encoding."""
        texts = [_UNREADABLE.sub(_REPLACEMENT, text) for text in texts]
        has_limit = isinstance(self.backend.model, WordPiece)
        long_texts = {i: text for i, text in enumerate(texts) if has_limit and may_have_long_word(text)}
        encodings: list[Encoding] = self.backend.encode_batch(
            ["" if i in long_texts else text for i, text in enumerate(texts)] if long_texts else texts
        )
        if long_texts:
            long_encodings = self._long_words_backend.encode_batch(list(long_texts.values()))
            for i, encoding in zip(long_texts, long_encodings, strict=True):
                encodings[i] = encoding
        return encodings


def _fast_backend(tokenizer: Tokenizer | PreTrainedTokenizerBase | TextTokenizer) -> Tokenizer:
    """Return the tokenizer of the tokenizers library behind another."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if isinstance(tokenizer, TextTokenizer):
        return tokenizer.backend
    if not tokenizer.is_fast:
        raise KonerError("the base model's tokenizer does not report offsets: it is not a fast tokenizer")
    backend: Tokenizer = tokenizer.backend_tokenizer
    return backend


def _read_all_as_text(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy whose control tokens match no text, and whose model drops no characters."""
    state = json.loads(tokenizer.to_str())
    names = _control_names(tokenizer, state)
    for token in state["added_tokens"]:
        token["content"] = _mark(token["content"], names)
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {_mark(piece, names): i for piece, i in model["vocab"].items()}
    else:
        model["vocab"] = [[_mark(piece, names), score] for piece, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = _mark(model["unk_token"], names)
    if model["type"] == "BPE":
        merges = [merge for merge in model["merges"] if names.isdisjoint([*merge, "".join(merge)])]
        model |= {"merges": merges, "fuse_unk": False, "dropout": None}
    elif model["type"] == "WordPiece":
        model["max_input_chars_per_word"] = _UNLIMITED
    copy = Tokenizer.from_str(json.dumps(state))
    if model["type"] == "Unigram" and not model.get("byte_fallback"):
        pieces = (piece for piece, _ in model["vocab"] if not piece.startswith(CONTROL_MARK))
        isolate_other_characters(copy, {character for piece in pieces for character in piece})
    return copy


def isolate_other_characters(tokenizer: Tokenizer, known: Iterable[str]) -> None:
    """Change a tokenizer so that each character that is not known is a word of its own."""
    characters = "".join(map(re.escape, sorted(known)))
    split = pre_tokenizers.Split(Regex(f"[^{characters}]" if characters else "."), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*filter(None, [tokenizer.pre_tokenizer]), split])


def _control_names(tokenizer: Tokenizer, state: dict[str, Any]) -> set[str]:
    """Return the names of the tokens that stand for no text: special tokens, the unknown token and padding."""
    names = {token["content"] for token in state["added_tokens"] if token["special"]}
    # The tokenizer itself adds those that need not be declared anywhere.
    names.update(tokenizer.encode("").tokens)
    model = state["model"]
    if model.get("unk_token"):
        names.add(model["unk_token"])
    if model.get("unk_id") is not None:
        names.add(model["vocab"][model["unk_id"]][0])
    return names


def _mark(name: str, names: set[str]) -> str:
    return CONTROL_MARK + name if name in names and not name.startswith(CONTROL_MARK) else name
