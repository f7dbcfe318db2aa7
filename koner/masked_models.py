"""Masked language models to pretrain: made small, or read from a base model, and run on packs of several texts."""

from __future__ import annotations

import torch
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForMaskedLM,
)

from koner.base_model import assert_fits, local_copy, read_model, read_tokenizer
from koner.errors import KonerError
from koner.pretrain_params import PretrainParams

# What turns hidden units into scores over the vocabulary, as transformers' families name it.
_HEADS = (("lm_head",), ("cls",), ("predictions",), ("generator_predictions", "generator_lm_head"))


def read_base(params: PretrainParams) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Reads the base model that the parameters name, with its head for masked language modelling, and its tokenizer.

    A base without such a head gets a new one. Raises `KonerError` where it can't be read, or not be pretrained here.
    """
    path = local_copy(params.base_model, params.base_model_revision)
    tokenizer = read_tokenizer(path, "base_model")
    if tokenizer.mask_token is None:
        raise KonerError(f"base_model: the tokenizer in {path} has no mask token")
    torch.manual_seed(params.seed)
    model = read_model(path, AutoModelForMaskedLM)
    assert_fits(model, tokenizer, params.length, "length", path)
    if not keeps_texts_apart(model):
        raise KonerError(f"base_model: models of type '{model.config.model_type}' can't be pretrained here")
    return model, tokenizer


def small_model(params: PretrainParams, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A RoBERTa masked language model of the parameters' sizes with random weights."""
    torch.manual_seed(params.seed)
    return RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer),
            num_hidden_layers=params.layers,
            hidden_size=params.hidden_size,
            num_attention_heads=params.heads,
            intermediate_size=4 * params.hidden_size,
            # RoBERTa counts positions from the padding id + 1.
            max_position_embeddings=params.length + tokenizer.pad_token_id + 1,
            type_vocab_size=1,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            # Few passes over much text: there is nothing to overfit, and what is dropped is not learnt.
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def hidden_units(model: PreTrainedModel, input_ids: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """The encoder's last hidden units (packs, tokens, units); each token attends to those of its own document only.

    `input_ids` and `documents` are int64 (packs, tokens).
    """
    within = (documents[:, None, :, None] == documents[:, None, None, :]).to(model.dtype)
    mask = (1 - within) * torch.finfo(model.dtype).min
    hidden: torch.Tensor = model.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
    return hidden


def vocabulary_scores(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Scores over the vocabulary (..., vocabulary) of hidden units (..., units)."""
    for names in _HEADS:
        if hasattr(model, names[0]):
            for name in names:
                hidden = getattr(model, name)(hidden)
            return hidden
    raise KonerError(f"base_model: models of type '{model.config.model_type}' can't be pretrained here")


def keeps_texts_apart(model: PreTrainedModel) -> bool:
    """Tells by trial whether `hidden_units` and `vocabulary_scores` do with this model what they say.

    A family that takes another form of attention mask would read texts as one that have nothing to do with each other.
    """
    first, second, other = [5, 6, 7, 8], [9, 10, 11, 12], [12, 9, 8, 11]
    ids = torch.tensor([first + second, first + other])
    documents = torch.tensor([[0] * 4 + [1] * 4] * 2)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            apart = hidden_units(model, ids, documents)
            mixed = hidden_units(model, ids, torch.zeros_like(documents))
            scores = vocabulary_scores(model, apart)
    except (AttributeError, IndexError, KonerError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(training)
    same = torch.isclose(apart[0, :4], apart[1, :4], atol=1e-4).all()
    seen = not torch.isclose(mixed[0, :4], mixed[1, :4], atol=1e-6).all()
    return bool(same) and seen and scores.shape == (*ids.shape, model.config.vocab_size)
