"""Temperature scaling of entity scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from koner.inference.tagger import EncodedText, Tagger
from koner.tokens.alignment import AlignedSentence
from koner.tokens.spans import tokens_to_entities
from koner.tokens.windows import Window, WindowedText

_TEMPERATURE_RANGE = (0.25, 10.0)
_MIN_ENTITIES = 30  # a fit to fewer is not reliable


def fit_temperature(tagger: Tagger, sentences: Sequence[AlignedSentence], noise: float = 0.0) -> float:
    """Fit the temperature that minimizes the log loss of entity scores as probabilities of correct entities.

    This is temperature scaling (Guo et al. 2017), fitted to the scores of entities instead of tokens, because an
    entity with likely tokens may still have a wrong boundary. The temperature does not change the entities.

    On text that differs from these sentences, a model is wrong more often, and its scores are too high. A fit to
    perturbed sentences allows for that (Tomani et al. 2021, https://arxiv.org/abs/2012.10988).

    Args:
        tagger: The tagger of the served model.
        sentences: The sentences to tag, with their annotated entities.
        noise: The share of the tokens of the sentences that are replaced by random ones, from 0 to 1.

    Returns:
        The temperature, rounded to four decimals; 1 if there are too few entities for a fit.
    """
    entity_logits: list[np.ndarray] = []
    entity_paths: list[np.ndarray] = []
    is_correct: list[bool] = []
    encoded_texts = tagger.encode([aligned.sentence.text for aligned in sentences])
    all_logits = tagger.compute_encoded_logits(_replace_tokens(encoded_texts, noise, tagger.tokenizer.text_token_ids))
    paths = tagger.best_paths([logits.values for logits in all_logits])
    for logits, path, aligned in zip(all_logits, paths, sentences, strict=True):
        tags = [tagger.token_labels[i] for i in path]
        for entity, (start, end) in tokens_to_entities(tags, logits.windowed_text.offsets):
            entity_logits.append(logits.values[start:end])
            entity_paths.append(path[start:end])
            is_correct.append(entity in aligned.sentence.entities)
    if len(is_correct) < _MIN_ENTITIES:
        return 1.0
    token_logits, correct = np.concatenate(entity_logits), np.array(is_correct)
    label_ids = np.concatenate(entity_paths)[:, None]
    lengths = np.array([len(path) for path in entity_paths])
    starts = np.cumsum(lengths) - lengths

    def loss(log_temperature: float) -> float:
        probabilities = softmax(token_logits / np.exp(log_temperature), axis=1)
        token_scores = np.take_along_axis(probabilities, label_ids, axis=1)[:, 0]
        scores = np.clip(np.add.reduceat(token_scores, starts) / lengths, 1e-6, 1 - 1e-6)
        return float(-np.where(correct, np.log(scores), np.log1p(-scores)).mean())

    fit = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURE_RANGE)), method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(fit.x)), 4)


def _replace_tokens(texts: Sequence[EncodedText], share: float, token_ids: Sequence[int]) -> list[EncodedText]:
    """Return encoded texts with a share of their tokens replaced by random ones of `token_ids`; control tokens stay."""
    generator = np.random.default_rng(0)

    def perturb(window: Window) -> Window:
        is_text = [start < end for start, end in window.offsets]
        is_replaced = is_text & (generator.random(len(window)) < share)
        input_ids = np.where(is_replaced, generator.choice(token_ids, len(window)), window.input_ids)
        return replace(window, input_ids=tuple(input_ids.tolist()))

    return [replace(text, windowed_text=WindowedText(tuple(map(perturb, text.windows)))) for text in texts]
