"""The tagger: text in, entities with exact character offsets and scores out. Evaluation and the service both run it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from koner.boundaries import LABELS, tag_of
from koner.decoding import DecodingSettings, ScoredEntity, Tagged, decode
from koner.encoding import Encoded, Window, encode_by_sentence, most_tokens, windowed
from koner.errors import KonerError
from koner.labels import OUTSIDE, TAGS, TYPES
from koner.normalization import Composed, compose
from koner.runtime import Runtime, choose_runtime
from koner.transitions import LegalSequences

__all__ = ["EncodedText", "ScoredEntity", "Tagged", "Tagger", "TokenLogits", "store_settings"]

_TOKENS_PER_BATCH = 4096
_KEY = "koner_"


@dataclass(frozen=True)
class EncodedText:
    """A text as the model reads it: in NFC, and cut into windows of tokens."""

    composed: Composed
    encoded: Encoded

    @property
    def windows(self) -> tuple[Window, ...]:
        """The model's inputs for this text, in order."""
        return self.encoded.windows


@dataclass(frozen=True)
class TokenLogits:
    """What the model makes of a text: its tokens, and the logits of each, float32 (tokens, labels)."""

    composed: Composed
    encoded: Encoded
    values: np.ndarray


class Tagger:
    """A trained token-classification model with its tokenizer, as `Tagger.load(folder)` reads it.

    A text is read sentence by sentence, so that its entities don't hang on what it is joined to; a sentence of more
    than `max_length` tokens in windows that overlap by a quarter, and a token that two windows hold is tagged by the
    one that shows more of its surroundings. Any thread may call any method, if the runtime lets it.
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
        self.tokenizer = windowed(tokenizer, self.max_length, self.stride)
        self.token_labels = list(token_labels)
        types = {tag_of(label)[2:] for label in token_labels if label != OUTSIDE}
        self.labels = tuple(type_ for type_ in TYPES if type_ in types)
        self.pad_id = pad_id
        self.settings = settings or DecodingSettings()
        self._sequences = LegalSequences(self.token_labels)

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None, threads: int | None = None) -> Tagger:
        """Reads a model folder (configuration, tokenizer, ONNX or safetensors); `koner.runtime` says what runs it.

        Raises `KonerError` where the folder holds no such model, or one whose labels are not KLUE-NER's types.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise KonerError(f"{folder} holds no model; run `dvc repro` or `dvc pull`")
        try:
            config = _read_json(folder / "config.json")
            token_labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
            limit = min(_window_limit(folder), most_tokens(config))
            pad_id = int(config.get("pad_token_id") or 0)
            settings = DecodingSettings(
                float(config.get(f"{_KEY}temperature", 1.0)),
                float(config.get(f"{_KEY}outside_bias", 0.0)),
                bool(config.get(f"{_KEY}legal", True)),
            )
            tokenizer = _read_tokenizer(folder)
        except KeyError as error:
            raise KonerError(f"{folder} can't be read as a model: config.json lacks {error}") from None
        except Exception as error:  # tokenizers raises nothing narrower
            raise KonerError(f"{folder} can't be read as a model: {error}") from None
        unknown = [label for label in token_labels if label not in LABELS]
        if unknown:
            raise KonerError(f"{folder}: the model's label '{unknown[0]}' is none of {', '.join(TAGS)}")
        return cls(choose_runtime(folder, device, threads), tokenizer, token_labels, limit, pad_id, settings)

    def tag(self, text: str) -> list[ScoredEntity]:
        """Finds the entities of one text, in order; offsets are code points of the text as given."""
        return list(self.tag_all([text])[0].entities)

    def tag_all(self, texts: Sequence[str]) -> list[Tagged]:
        """Tags texts, batched by length; the results stand in the order of the texts."""
        return [self.decode(logits) for logits in self.logits(texts)]

    def logits(self, texts: Sequence[str]) -> list[TokenLogits]:
        """Runs the model over texts, batched by length; a token of two windows has one row."""
        encoded = self.encode(texts)
        windows = [window for text in encoded for window in text.windows]
        rows: list[np.ndarray] = [np.empty(0)] * len(windows)
        for batch in _batches(windows):
            for i, row in zip(batch, self.run([windows[i] for i in batch]), strict=True):
                rows[i] = row
        found = iter(rows)
        return [self.join(text, [next(found) for _ in text.windows]) for text in encoded]

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Brings texts to NFC and cuts them into windows; the cheap part, apart from the model."""
        composed = [compose(text) for text in texts]
        encoded = encode_by_sentence([c.text for c in composed], self.tokenizer, self.max_length, self.stride)
        return [EncodedText(c, e) for c, e in zip(composed, encoded, strict=True)]

    def run(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Runs windows, at least one, as one padded batch; gives the logits of each, float32 (tokens, labels)."""
        shape = len(windows), max(map(len, windows))
        input_ids = np.full(shape, self.pad_id, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        for i, window in enumerate(windows):
            input_ids[i, : len(window)] = window.input_ids
            attention_mask[i, : len(window)] = 1
        found = self.runtime(input_ids, attention_mask)
        return [row[: len(window)] for row, window in zip(found, windows, strict=True)]

    def join(self, text: EncodedText, rows: Sequence[np.ndarray]) -> TokenLogits:
        """Puts the logits of a text's windows, in their order, together: one row a token."""
        values = np.array([rows[w][p] for w, p in text.encoded.tokens], np.float32).reshape(-1, len(self.token_labels))
        return TokenLogits(text.composed, text.encoded, values)

    def decode(self, logits: TokenLogits, temperature: float | None = None) -> Tagged:
        """Reads the entities off a text's logits; `temperature` stands in for the model's own."""
        values, path = self.choose(logits.values)
        return decode(
            values,
            path,
            self.token_labels,
            logits.encoded.offsets,
            logits.composed,
            temperature or self.settings.temperature,
        )

    def choose(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logits of a text's tokens with the bias on O, and the id of the label that each token is given."""
        if self.settings.outside_bias:
            values = values.copy()
            values[:, self.token_labels.index(OUTSIDE)] += self.settings.outside_bias
        return values, self._sequences.best(values) if self.settings.legal else values.argmax(axis=1)


def store_settings(folder: Path, settings: DecodingSettings) -> None:
    """Writes the settings into a model folder's configuration, where transformers leaves them alone."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update({f"{_KEY}{name}": value for name, value in asdict(settings).items()})
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _batches(windows: Sequence[Window]) -> Iterator[list[int]]:
    """Groups windows, by their indices, so that a padded batch holds at most `_TOKENS_PER_BATCH` tokens."""
    batch: list[int] = []
    for i in sorted(range(len(windows)), key=lambda i: len(windows[i])):
        if batch and (len(batch) + 1) * len(windows[i]) > _TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _read_json(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} holds no object")
    return values


def _window_limit(folder: Path) -> int:
    """The longest window that a folder's tokenizer is set to."""
    path = folder / "tokenizer_config.json"
    return int(_read_json(path).get("model_max_length", sys.maxsize)) if path.is_file() else sys.maxsize


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(str(path))
    # Slow to import, and only older models have a vocabulary alone.
    from transformers import AutoTokenizer

    read = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    backend: Tokenizer = read.backend_tokenizer
    return backend
