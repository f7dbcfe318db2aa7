"""Ways to keep a small training part from being learnt by heart: each off unless its parameter is set."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import PreTrainedModel, Trainer

from koner.labels import IGNORED
from koner.params import Params


class RegularizedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer with label smoothing, R-Drop, adversarial embeddings and layer-wise learning rates.

    R-Drop (Wu et al. 2021): a batch is read twice under other dropout, and the two should agree. FGM (Miyato et al.
    2017): it is read again with the embeddings moved against it by `adversarial`. Layer-wise decay (Howard and Ruder
    2018): each layer's learning rate is `layer_decay` times that of the layer above.
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
        smoothing, r_drop = (self.params.label_smoothing, self.params.r_drop) if model.training else (0.0, 0.0)
        if not (smoothing or r_drop or self.args.world_size > 1):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"]
        told = labels != IGNORED
        # Shares differ in tokens, so a mean of their means would not be that of the batch.
        tokens = self.accelerator.reduce(told.sum().float(), "mean").clamp(min=1)
        read = {name: value for name, value in inputs.items() if name != "labels"}
        outputs = model(**read)
        logits = [outputs.logits[told]]
        if r_drop:
            logits.append(model(**read).logits[told])
        total = torch.stack(
            [cross_entropy(one, labels[told], label_smoothing=smoothing, reduction="sum") for one in logits]
        ).mean()
        if r_drop:
            a, b = (log_softmax(one, dim=-1) for one in logits)
            apart = kl_div(a, b, reduction="sum", log_target=True) + kl_div(b, a, reduction="sum", log_target=True)
            total = total + r_drop * apart / 2
        loss = total / tokens
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """A step's gradients, those of the moved embeddings with them."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.params.adversarial:
            plain: PreTrainedModel = self.accelerator.unwrap_model(model)
            weight = plain.get_input_embeddings().weight
            norm = weight.grad.norm()
            if norm > 0:
                moved = weight.grad * (self.params.adversarial / norm)
                weight.data.add_(moved)
                super().training_step(model, inputs, num_items_in_batch)
                weight.data.sub_(moved)
        return loss

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
