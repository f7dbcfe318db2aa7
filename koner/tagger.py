"""The tagger: text in, entities with exact character offsets and scores out. Evaluation and the service both run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from koner.alignment import Encoded, encode, most_tokens, token_entities
from koner.errors import KonerError
from koner.labels import TYPES
from koner.normalization import Composed, compose

_TOKENS_PER_BATCH = 4096
TEMPERATURE_KEY = "koner_temperature"


@dataclass(frozen=True, slots=True)
class ScoredEntity:
    """An entity found in a text: `text[start:end]` in code points of the text as given, its type and score.

    The score is the mean, over the entity's tokens, of the probability of the tag that each was given, at the model's
    temperature.
    """

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class Tagged:
    """A text's entities, and the tag that each of its tokens was given with that tag's probability."""

    entities: tuple[ScoredEntity, ...]
    token_tags: tuple[str, ...]
    token_scores: tuple[float, ...]


@dataclass(frozen=True)
class TokenLogits:
    """What the model makes of a text: its tokens, and the logits of each, float32 (tokens, tags)."""

    composed: Composed
    encoded: Encoded
    values: np.ndarray


class Tagger:
    """A trained token-classification model with its tokenizer, as `Tagger.load(folder)` reads it.

    Windows of `max_length` tokens overlap by a quarter; a token that two windows hold is tagged by the one that
    shows more of its surroundings, so that texts of any length are tagged whole.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.stride = max_length // 4
        # Fitted by `koner.calibration`; 1 for a model that was not calibrated.
        self.temperature = float(getattr(model.config, TEMPERATURE_KEY, 1.0))
        self.tags = [model.config.id2label[i] for i in range(model.config.num_labels)]

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Tagger:
        """Reads a model folder (configuration, safetensors, tokenizer); a GPU is used where there is one.

        Raises `KonerError` where the folder holds no such model, or one whose labels are not KLUE-NER's types.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise KonerError(f"{folder} holds no model; run `dvc repro`")
        try:
            model = AutoModelForTokenClassification.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise KonerError(f"{folder} can't be read as a model: {error}") from None
        unknown = {label[2:] for label in model.config.id2label.values() if label != "O"} - set(TYPES)
        if unknown:
            raise KonerError(f"{folder}: the model's label '{min(unknown)}' is none of {', '.join(TYPES)}")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        limit = min(tokenizer.model_max_length, most_tokens(model.config))
        return cls(model.to(device), tokenizer, limit)

    def tag(self, text: str) -> list[ScoredEntity]:
        """Finds the entities of one text, in order; offsets are code points of the text as given."""
        return list(self.tag_all([text])[0].entities)

    def tag_all(self, texts: Sequence[str]) -> list[Tagged]:
        """Tags texts, batched by length; the results stand in the order of the texts."""
        return [self.decode(logits) for logits in self.logits(texts)]

    def decode(self, logits: TokenLogits, temperature: float | None = None) -> Tagged:
        """Reads the entities off a text's logits; `temperature` stands in for the model's own."""
        values = logits.values / (temperature or self.temperature)
        best = values.argmax(axis=1)
        probabilities = softmax(values, axis=1)[np.arange(len(best)), best]
        tags = tuple(self.tags[i] for i in best)
        entities = tuple(
            ScoredEntity(
                *logits.composed.original_span(found.start, found.end), found.label, float(probabilities[a:b].mean())
            )
            for found, (a, b) in token_entities(tags, logits.encoded.offsets)
        )
        return Tagged(entities, tags, tuple(probabilities.tolist()))

    def logits(self, texts: Sequence[str]) -> list[TokenLogits]:
        """Runs the model over texts, batched by length; a token of two windows has one row."""
        composed = [compose(text) for text in texts]
        encoded = encode([c.text for c in composed], self.tokenizer, self.max_length, self.stride)
        windows = [(s, w) for s, e in enumerate(encoded) for w in range(len(e.windows))]
        windows.sort(key=lambda at: len(encoded[at[0]].windows[at[1]]))
        rows: list[list[np.ndarray]] = [[np.empty(0)] * len(e.windows) for e in encoded]
        for batch in _batches(windows, [len(encoded[s].windows[w]) for s, w in windows]):
            inputs = self.tokenizer.pad(
                {"input_ids": [list(encoded[s].windows[w].input_ids) for s, w in batch]}, return_tensors="pt"
            ).to(self.model.device)
            with torch.inference_mode():
                found = self.model(**inputs).logits.float().cpu().numpy()
            for row, (s, w) in zip(found, batch, strict=True):
                rows[s][w] = row
        return [
            TokenLogits(c, e, np.array([r[w][p] for w, p in e.tokens], np.float32).reshape(-1, len(self.tags)))
            for c, e, r in zip(composed, encoded, rows, strict=True)
        ]


def _batches(items: Iterable[tuple[int, int]], lengths: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """Groups items of growing length so that a padded batch holds at most `_TOKENS_PER_BATCH` tokens."""
    batch: list[tuple[int, int]] = []
    for item, length in zip(items, lengths, strict=True):
        if batch and (len(batch) + 1) * length > _TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
