"""The `TrainingArguments` of fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments

from koner.params import Params
from koner.training.distributed import world_size
from koner.training.precision import precision_settings

# Evaluation needs no memory for gradients, so its batches can be larger.
EVAL_BATCH_FACTOR = 4


def training_arguments(params: Params, model: PreTrainedModel, checkpoints: Path) -> TrainingArguments:
    """Return the arguments of a run that writes a checkpoint after every epoch to `checkpoints`."""
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=params.batch_size // world_size(),
        per_device_eval_batch_size=EVAL_BATCH_FACTOR * params.batch_size // world_size(),
        num_train_epochs=params.epochs,
        learning_rate=params.lr,
        weight_decay=params.weight_decay,
        warmup_steps=params.warmup_share,
        seed=params.seed,
        full_determinism=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=params.keep_checkpoints,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
        greater_is_better=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        **precision_settings(params.precision) | _distributed_settings(params, model),
    )
    # If a single process sees several GPUs, the Trainer would put a batch of this size on each of them.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _distributed_settings(params: Params, model: PreTrainedModel) -> dict[str, Any]:
    if world_size() == 1:
        return {}
    settings: dict[str, Any] = {
        "use_cpu": not torch.cuda.is_available(),
        # A batch is split between the processes, in the order that the seed draws in all of them.
        "accelerator_config": {"split_batches": True},
        "data_seed": params.seed,
        # The models' buffers are constants.
        "ddp_broadcast_buffers": False,
    }
    if params.sharding == "fsdp":
        settings |= {"fsdp": True, "fsdp_config": _fsdp_config(model)}
    return settings


def _fsdp_config(model: PreTrainedModel) -> dict[str, Any]:
    # Without these classes accelerate would shard the embeddings twice, which torch refuses.
    stacks = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    layer_classes = {type(layer).__name__ for stack in stacks for layer in stack}
    return {
        "version": 2,
        "transformer_layer_cls_to_wrap": sorted(layer_classes),
        "state_dict_type": "SHARDED_STATE_DICT",
    }
