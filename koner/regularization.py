"""Ways to keep a small training part from being learnt by heart: each off unless its parameter is set."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, Trainer

from koner.labels import IGNORED
from koner.params import Params


class RegularizedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer with label smoothing (Szegedy et al. 2016) and layer-wise learning rates.

    Layer-wise decay (Howard and Ruder 2018): each layer's learning rate is `layer_decay` times that of the layer above.
    """

    def __init__(self, params: Params, **options: Any) -> None:
        super().__init__(**options)
        self.params = params

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch; while training with what regularizes it, else the plain cross entropy.

        Where processes share a batch, its mean over them is the mean over the batch's tokens.
        """
        smoothing = self.params.label_smoothing if model.training else 0.0
        if not smoothing and self.args.world_size == 1:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"]
        told = labels != IGNORED
        # Shares differ in tokens, so a mean of their means would not be that of the batch.
        tokens = self.accelerator.reduce(told.sum().float(), "mean").clamp(min=1)
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        total = cross_entropy(outputs.logits[told], labels[told], label_smoothing=smoothing, reduction="sum")
        loss = total / tokens
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """AdamW as the Trainer makes it; with layer-wise learning rates where they are asked for."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if self.params.layer_decay < 1:
            _decay_by_layer(optimizer, self.model, self.params.layer_decay)
        return optimizer


def _decay_by_layer(optimizer: torch.optim.Optimizer, model: PreTrainedModel, decay: float) -> None:
    depth = {parameter: _depth(name, model.config.num_hidden_layers) for name, parameter in model.named_parameters()}
    top = model.config.num_hidden_layers + 1
    groups = []
    for group in optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        for d in sorted({depth[p] for p in group["params"]}):
            params = [p for p in group["params"] if depth[p] == d]
            groups.append({**settings, "params": params, "lr": settings["lr"] * decay ** (top - d)})
    optimizer.param_groups[:] = groups


def _depth(name: str, layers: int) -> int:
    """0 for embeddings, 1 to `layers` for the encoder's layers, one more for the head."""
    parts = name.split(".")
    if "layer" in parts:
        return int(parts[parts.index("layer") + 1]) + 1
    return 0 if "embeddings" in parts else layers + 1
