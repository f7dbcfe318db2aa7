"""The tagger, which finds the entities of a text with their exact character offsets and scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from koner.errors import KonerError, first_line
from koner.inference.decoding import DecodingSettings, ScoredEntity, TaggedText, decode
from koner.inference.model_folder import (
    CONFIG_FILE,
    CONFIG_PREFIX,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    highest_id,
    read_config,
    read_max_length,
    read_tokenizer,
)
from koner.inference.runtimes import Runtime, choose_runtime
from koner.inference.transitions import BioLabels, ConstrainedDecoder
from koner.labels.label_set import LabelSet
from koner.text.normalization import Composed, compose
from koner.tokens.windows import Window, WindowedText, encode_by_sentence, with_truncation

__all__ = ["EncodedText", "ScoredEntity", "TaggedText", "Tagger", "TokenLogits", "store_settings"]

# Tokens that are decoded together; the arrays of more would leave the cache of a processor.
_TOKENS_TOGETHER = 1024
# A model is run on a window of this length at most when it is loaded; memory grows with the square of the length.
_LONGEST_CHECKED = 1024
# With a character that no vocabulary has.
_SAMPLE = "홍길동은 \U0010fffd 서울에 갔다"


@dataclass(frozen=True)
class EncodedText:
    """A text as the model reads it: in NFC, and split into windows of tokens."""

    composed: Composed
    windowed_text: WindowedText

    @property
    def windows(self) -> tuple[Window, ...]:
        """The model's inputs for this text, in order."""
        return self.windowed_text.windows


@dataclass(frozen=True)
class TokenLogits:
    """The logits of the tokens of a text, with the text itself.

    Attributes:
        composed: The text in NFC.
        windowed_text: The tokens of the text.
        values: The logits, float32 (tokens, labels).
    """

    composed: Composed
    windowed_text: WindowedText
    values: np.ndarray


class Tagger:
    """A token-classification model with its tokenizer; any thread may call any method, if the runtime allows it.

    A text is read sentence by sentence, so that the entities of a sentence do not depend on the sentences around it.
    A sentence with more than `max_length` tokens is read in windows that overlap by a quarter; a token in two windows
    is tagged by the window that shows more of its context.

    Args:
        runtime: The runtime that computes the logits.
        tokenizer: The tokenizer.
        token_labels: The BIO label of each of the model's label ids.
        max_length: The maximal length of a window, in tokens.
        pad_id: The token id of padding.
        settings: The settings of decoding; the defaults if None.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Tokenizer,
        token_labels: Sequence[str],
        max_length: int,
        pad_id: int = 0,
        settings: DecodingSettings | None = None,
    ) -> None:
        self.runtime = runtime
        self.max_length = max_length
        self.stride = max_length // 4
        self.tokenizer = with_truncation(tokenizer, self.max_length, self.stride)
        self.token_labels = list(token_labels)
        self.label_set = LabelSet.from_tags(token_labels)
        self.pad_id = pad_id
        self.settings = settings or DecodingSettings()
        self._labels = BioLabels(self.token_labels)
        self._decoder = ConstrainedDecoder(self._labels)

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None, threads: int | None = None) -> Tagger:
        """Load a model folder: configuration, tokenizer, and weights as ONNX or safetensors.

        Args:
            folder: The model folder.
            device: The device, as for `koner.inference.runtimes.choose_runtime`.
            threads: The number of CPU threads, as for `choose_runtime`.

        Returns:
            The tagger.

        Raises:
            KonerError: If the folder holds no such model, if its files do not fit together, or if its labels are not
                the tags of a BIO label set.
        """
        folder = Path(folder)
        config = read_config(folder)
        max_length = read_max_length(folder, config)
        tokenizer = read_tokenizer(folder, config)
        pad_id = config.pad_token_id or 0
        if max_length - tokenizer.num_special_tokens_to_add(False) <= max(0, max_length) // 4:
            raise KonerError(
                f"{folder}: windows of {max_length} tokens are too short (max_position_embeddings in {CONFIG_FILE}, "
                f"model_max_length in {TOKENIZER_CONFIG_FILE})"
            )
        runtime = choose_runtime(folder, device, threads)
        tagger = cls(runtime, tokenizer, config.token_labels, max_length, pad_id, config.settings)
        _check_run(tagger, folder)
        return tagger

    def tag(self, text: str) -> list[ScoredEntity]:
        """Return the entities of a text, in order; offsets are code points of the original text."""
        return list(self.tag_all([text])[0].entities)

    def tag_all(self, texts: Sequence[str]) -> list[TaggedText]:
        """Tag texts, batched by length; the results are in the order of the texts."""
        return self.decode_all(self.compute_logits(texts))

    def compute_logits(self, texts: Sequence[str]) -> list[TokenLogits]:
        """Compute the logits of texts, batched by length; a token in two windows has one row of logits."""
        return self.compute_encoded_logits(self.encode(texts))

    def compute_encoded_logits(self, encoded_texts: Sequence[EncodedText]) -> list[TokenLogits]:
        """Compute the logits of encoded texts, as `compute_logits` does."""
        windows = [window for text in encoded_texts for window in text.windows]
        window_logits: list[np.ndarray] = [np.empty(0)] * len(windows)
        for batch in _iterate_batches(windows, self.runtime.batch_tokens):
            for i, logits in zip(batch, self.run([windows[i] for i in batch]), strict=True):
                window_logits[i] = logits
        remaining = iter(window_logits)
        return [self.join(text, [next(remaining) for _ in text.windows]) for text in encoded_texts]

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Normalize texts to NFC and split them into windows, without running the model."""
        composed = [compose(text) for text in texts]
        windowed = encode_by_sentence([c.text for c in composed], self.tokenizer, self.max_length, self.stride)
        return [EncodedText(c, w) for c, w in zip(composed, windowed, strict=True)]

    def run(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Run the model on windows, at least one, as one padded batch.

        Args:
            windows: The windows.

        Returns:
            The logits of each window without its padding, float32 (tokens, labels).
        """
        shape = len(windows), max(map(len, windows))
        input_ids = np.full(shape, self.pad_id, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        for i, window in enumerate(windows):
            input_ids[i, : len(window)] = window.input_ids
            attention_mask[i, : len(window)] = 1
        batch_logits = self.runtime(input_ids, attention_mask)
        return [logits[: len(window)] for logits, window in zip(batch_logits, windows, strict=True)]

    def join(self, text: EncodedText, window_logits: Sequence[np.ndarray]) -> TokenLogits:
        """Join the logits of a text's windows, in their order, to one row of logits per token."""
        none = np.empty((0, len(self.token_labels)), np.float32)
        rows = window_logits[0] if len(window_logits) == 1 else np.concatenate([none, *window_logits])
        return TokenLogits(text.composed, text.windowed_text, rows[text.windowed_text.token_rows])

    def decode(self, logits: TokenLogits, temperature: float | None = None) -> TaggedText:
        """Decode the entities from a text's logits, at the model's own temperature if None."""
        return self.decode_all([logits], temperature)[0]

    def decode_all(self, logits: Sequence[TokenLogits], temperature: float | None = None) -> list[TaggedText]:
        """Decode the entities of texts as `decode` does, in the order of the texts."""
        tagged: list[TaggedText] = []
        for texts in _iterate_together(logits):
            values, starts = _concatenate([text.values for text in texts])
            path = self._best_path(values, starts)
            spans = [(text.composed, text.windowed_text.offsets) for text in texts]
            tagged += decode(values, path, starts, self._labels, spans, temperature or self.settings.temperature)
        return tagged

    def best_paths(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the predicted label ids of the tokens of texts, each (tokens,), for their logits (tokens, labels)."""
        return [self._best_path(logits, np.array([0, len(logits)])) for logits in values]

    def _best_path(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the predicted label ids of tokens (tokens,), as `ConstrainedDecoder.decode` does."""
        if self.settings.legal:
            return self._decoder.decode(values, starts)
        path: np.ndarray = values.argmax(axis=1)
        return path


def store_settings(folder: Path, settings: DecodingSettings) -> None:
    """Write the settings into a model folder's config.json, under keys that transformers ignores."""
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update({f"{CONFIG_PREFIX}{name}": value for name, value in asdict(settings).items()})
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _iterate_batches(windows: Sequence[Window], max_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of windows in batches with at most `max_tokens`, padding included."""
    batch: list[int] = []
    for i in sorted(range(len(windows)), key=lambda i: len(windows[i])):
        if batch and (len(batch) + 1) * len(windows[i]) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _iterate_together(logits: Iterable[TokenLogits]) -> Iterator[list[TokenLogits]]:
    """Yield texts, in order, in lists with at most `_TOKENS_TOGETHER` tokens; a longer text is alone."""
    texts: list[TokenLogits] = []
    tokens = 0
    for text in logits:
        if texts and tokens + len(text.values) > _TOKENS_TOGETHER:
            yield texts
            texts, tokens = [], 0
        texts.append(text)
        tokens += len(text.values)
    if texts:
        yield texts


def _concatenate(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return arrays, at least one, one after the other, and the start of each with the end of the last one."""
    return (
        arrays[0] if len(arrays) == 1 else np.concatenate(arrays),
        np.array([0, *accumulate(map(len, arrays))]),
    )


def _check_run(tagger: Tagger, folder: Path) -> None:
    """Run a model once on what its files promise to support, so that a request does not fail on it later.

    Raises:
        KonerError: If the model does not support it; the message names the file.
    """
    try:
        sample = tagger.encode([_SAMPLE])[0].windows[0]
    except Exception as error:  # tokenizers raises nothing narrower
        raise KonerError(f"{folder / TOKENIZER_FILE} can't encode a text: {first_line(error)}") from None
    length = min(tagger.max_length, _LONGEST_CHECKED)
    highest = highest_id(tagger.tokenizer.backend)
    for name, ids in (
        ("a text", sample.input_ids),
        (f"the token of number {highest} of {TOKENIZER_FILE}", (highest, tagger.pad_id)),
        (f"a window of {length} tokens (max_position_embeddings in {CONFIG_FILE})", sample.input_ids[:1] * length),
    ):
        try:
            (logits,) = tagger.run([Window(ids, ((0, 0),) * len(ids))])
        except Exception as error:  # each runtime has its own errors
            raise KonerError(f"{folder}: the model can't run {name}: {first_line(error)}") from None
        if logits.shape[1:] != (len(tagger.token_labels),):
            raise KonerError(
                f"{folder / CONFIG_FILE}: id2label has {len(tagger.token_labels)} labels, and the model computes "
                f"logits of the shape {logits.shape[1:]} for each token"
            )
        if not np.isfinite(logits).all():
            raise KonerError(f"{folder}: the weights are damaged: the logits of {name} are not finite numbers")
