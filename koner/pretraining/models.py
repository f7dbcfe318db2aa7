"""Masked language models to pretrain, and their forward pass on packs of several documents."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaForMaskedLM,
)

from koner.encoder.loading import check_fits, has_label_head, load_model, load_tokenizer, resolve_model_folder
from koner.encoder.scratch import roberta_config
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.pretraining.params import PretrainParams

# The modules that compute vocabulary logits from hidden states, by the model families of transformers.
_HEADS = (("lm_head",), ("cls",), ("predictions",), ("generator_predictions", "generator_lm_head"))
# The head of the weak labels has the name that it has in transformers' token classifiers, which then load it.
LABEL_HEAD = "classifier"
_SUPPORTED = "choose a model of another family, such as RoBERTa, BERT or ELECTRA"


def load_base_model(params: PretrainParams) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base model that the parameters name, with a head for masked language modelling, and its tokenizer.

    A model without such a head gets one with random weights. A head over KLUE-NER's tags, which pretraining on weak
    labels writes, is kept as the module `LABEL_HEAD`.

    Raises:
        KonerError: If the model can't be loaded, or can't be pretrained.
    """
    path = resolve_model_folder(params.base_model, params.base_model_revision)
    tokenizer = load_tokenizer(path, "base_model")
    if tokenizer.mask_token is None:
        raise KonerError(f"base_model: the tokenizer in {path} has no mask token")
    torch.manual_seed(params.seed)
    model = load_model(path, AutoModelForMaskedLM)
    check_fits(model, tokenizer, params.length, "length", path)
    if not isolates_documents(model):
        raise KonerError(f"base_model: models of type '{model.config.model_type}' can't be pretrained; {_SUPPORTED}")
    if has_label_head(path, KLUE):
        head = getattr(load_model(path, AutoModelForTokenClassification), LABEL_HEAD, None)
        if isinstance(head, nn.Linear):
            setattr(model, LABEL_HEAD, head)
    return model, tokenizer


def scratch_masked_lm(params: PretrainParams, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Create a RoBERTa masked language model with random weights, of the sizes in the parameters."""
    torch.manual_seed(params.seed)
    config = roberta_config(
        tokenizer,
        params.layers,
        params.hidden_size,
        params.heads,
        params.length,
        # Training does few passes over much text: it does not overfit, and dropout would slow it down.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return RobertaForMaskedLM(config)


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """Compute the last hidden states of packs, in which each token attends to the tokens of its document only.

    Args:
        model: The model.
        input_ids: Token ids, int64 (packs, tokens).
        documents: The number of each token's document, int64 (packs, tokens).

    Returns:
        The hidden states (packs, tokens, units).
    """
    same_document = (documents[:, None, :, None] == documents[:, None, None, :]).to(model.dtype)
    mask = (1 - same_document) * torch.finfo(model.dtype).min
    hidden: torch.Tensor = model.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
    return hidden


def vocabulary_logits(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Compute the vocabulary logits (..., vocabulary) of hidden states (..., units).

    Raises:
        KonerError: If the model has no head for masked language modelling that is known here.
    """
    for names in _HEADS:
        if hasattr(model, names[0]):
            for name in names:
                hidden = getattr(model, name)(hidden)
            return hidden
    raise KonerError(f"base_model: models of type '{model.config.model_type}' can't be pretrained; {_SUPPORTED}")


def isolates_documents(model: PreTrainedModel) -> bool:
    """Return whether a model supports `hidden_states` and `vocabulary_logits`, by a trial.

    A model family that expects another form of attention mask would attend across the documents of a pack.
    """
    first, second, other = [5, 6, 7, 8], [9, 10, 11, 12], [12, 9, 8, 11]
    ids = torch.tensor([first + second, first + other])
    documents = torch.tensor([[0] * 4 + [1] * 4] * 2)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            separate = hidden_states(model, ids, documents)
            joined = hidden_states(model, ids, torch.zeros_like(documents))
            logits = vocabulary_logits(model, separate)
    except (AttributeError, IndexError, KonerError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(training)
    # The packs differ in their second documents: the first one must not depend on it, unless both are one document.
    is_isolated = bool(torch.isclose(separate[0, :4], separate[1, :4], atol=1e-4).all())
    attends = not torch.isclose(joined[0, :4], joined[1, :4], atol=1e-6).all()
    return is_isolated and attends and logits.shape == (*ids.shape, model.config.vocab_size)
