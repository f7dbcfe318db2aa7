"""The token classifier: a base model with a linear head."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedModel

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


def average_with_base(model: PreTrainedModel, base: Path, share: float, labels: LabelSet) -> bool:
    """Replace each weight of a trained model by an average with the weight that it started from.

    What the base model knows of other text than the training part, and fine-tuning has changed, comes back in part
    (WiSE-FT, Wortsman et al. 2022, https://arxiv.org/abs/2109.01903). Without a head over the same tags the base
    model's weights are of no task, and the model stays as it is.

    Args:
        model: The trained model; it is changed in place.
        base: The folder of the base model.
        share: The weight of the base model in the average, from 0 to 1.
        labels: The label set of the model.

    Returns:
        Whether the base model has a head over the tags of the label set.
    """
    if AutoConfig.from_pretrained(base, local_files_only=True).id2label != labels.id_to_tag:
        return False
    start = build_model(base, 0.0, labels).state_dict()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.lerp_(start[name].to(weight.device), share)
    return True
