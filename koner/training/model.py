"""The token classifier: a base model with a linear head."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel

from koner.errors import KonerError
from koner.labels.label_set import LabelSet

# Model types name their dropout rates differently.
_DROPOUT_FIELDS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


def build_model(base: Path, dropout: float, labels: LabelSet) -> PreTrainedModel:
    """Return a base model with a randomly initialized linear head over the tags of a label set.

    Args:
        base: The folder of the base model.
        dropout: The dropout rate of hidden units and attention.
        labels: The label set.

    Raises:
        KonerError: If the base model has no token classification class.
    """
    try:
        model = AutoModelForTokenClassification.from_pretrained(
            base,
            num_labels=len(labels.tags),
            id2label=labels.id_to_tag,
            label2id=labels.tag_to_id,
            dtype=torch.float32,
            local_files_only=True,
        )
    except ValueError as error:
        raise KonerError(f"base_model: transformers cannot build a token classifier on it: {error}") from None
    for field in _DROPOUT_FIELDS:
        if hasattr(model.config, field):
            setattr(model.config, field, dropout)
    # The modules were built with the rates of the base model.
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return model
