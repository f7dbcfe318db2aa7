"""A base model with random weights, and its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaModel

from koner.encoder.loading import load_tokenizer
from koner.encoder.vocabulary import build_vocabulary, make_tokenizer
from koner.errors import KonerError
from koner.params import OWN, Params
from koner.storage.paths import local_path


def roberta_config(
    tokenizer: PreTrainedTokenizerBase, layers: int, hidden_size: int, heads: int, max_length: int, **options: Any
) -> RobertaConfig:
    """Return the configuration of a RoBERTa model.

    Args:
        tokenizer: The tokenizer of the model.
        layers: The number of transformer layers.
        hidden_size: The number of hidden units.
        heads: The number of attention heads.
        max_length: The length of the longest window, in tokens.
        **options: Other values of the configuration.
    """
    return RobertaConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=layers,
        hidden_size=hidden_size,
        num_attention_heads=heads,
        intermediate_size=4 * hidden_size,
        # The positions of RoBERTa start at the padding id + 1.
        max_position_embeddings=max_length + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )


def scratch_model(params: Params, tokenizer: PreTrainedTokenizerBase) -> RobertaModel:
    """Create a RoBERTa encoder with random weights, initialized as in its paper (normal, standard deviation 0.02).

    NumPy draws the weights: torch's generator returns other numbers on a CPU with other vector instructions, and the
    hash of the folder has to be the same on every machine.
    """
    config = roberta_config(tokenizer, params.layers, params.hidden_size, params.heads, params.max_length)
    model = RobertaModel(config, add_pooling_layer=False)
    random = np.random.default_rng(params.seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                values = random.standard_normal(tuple(weight.shape), dtype=np.float32) * config.initializer_range
                weight.copy_(torch.from_numpy(values))
            else:
                weight.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        model.embeddings.word_embeddings.weight[config.pad_token_id] = 0.0
    return model


def scratch_tokenizer(params: Params, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Return the tokenizer that the parameter `tokenizer` names: one built from the texts, or that of a folder.

    Raises:
        KonerError: If the folder does not exist or has no tokenizer that can be used.
    """
    if params.tokenizer == OWN:
        return make_tokenizer(build_vocabulary(texts, params.vocab_min_count), params.max_length)
    path = local_path(params.tokenizer)
    if not os.path.isdir(path):
        raise KonerError(f"tokenizer: there is no folder {params.tokenizer}; set it to an existing folder or to 'own'")
    return load_tokenizer(path, "tokenizer")
