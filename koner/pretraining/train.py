"""Pretraining on packs: masked language modelling, with morpheme tagging and weak labels as further tasks."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from koner.params import SCRATCH
from koner.pretraining.masking import WholeWordMasking
from koner.pretraining.models import load_base_model, scratch_masked_lm
from koner.pretraining.packing import PackedDataset
from koner.pretraining.params import PretrainParams
from koner.pretraining.prepare import HELD_OUT, TOKENIZER, TRAIN
from koner.pretraining.skipgram import skipgram_vectors
from koner.pretraining.trainer import PretrainingTrainer, add_heads, remove_heads
from koner.storage.outputs import atomic_directory
from koner.training.checkpoints import fingerprint, last_checkpoint, remove_other_runs
from koner.training.precision import precision_settings, uses_bf16

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "trapezoid": "warmup_stable_decay"}

logger = logging.getLogger(__name__)


def pretrain(
    params: PretrainParams, packs: Path, folder: Path, checkpoints: Path, callbacks: Sequence[TrainerCallback] = ()
) -> dict[str, Any]:
    """Pretrain a model, and write its encoder, masked-language-model head and tokenizer to `folder`.

    With weak labels, the linear head that predicts them is written, too. The weights are written in 16 bits. The loss
    on the held-out packs is measured at the start, every `evaluate_every` steps, and at the end. A checkpoint is
    written at each of these steps: a run that was interrupted resumes from its last one.

    Args:
        params: The parameters of pretraining.
        packs: The folder that `koner.pretraining.prepare.prepare_packs` wrote.
        folder: The folder that the model is written to, atomically.
        checkpoints: The folder of checkpoints. Those of this run are kept until the model is written; those of other
            runs are removed.
        callbacks: Callbacks for the Trainer.

    Returns:
        The metrics of the run.

    Raises:
        KonerError: If the base model can't be loaded or pretrained, or gensim is needed and not installed.
    """
    run_id = fingerprint(params, [packs])
    remove_other_runs(checkpoints, run_id)
    checkpoint = _find_checkpoint(checkpoints / run_id, params.steps)
    training, held_out = (PackedDataset(packs / part, params.length) for part in (TRAIN, HELD_OUT))
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(packs / TOKENIZER, local_files_only=True)
    model = _build_model(params, tokenizer, training, initialize=not checkpoint)
    add_heads(model)
    masking = WholeWordMasking(tokenizer.mask_token_id, len(tokenizer), tokenizer.all_special_ids, params.mask_share)
    trainer = PretrainingTrainer(
        masking,
        params.tag_weight,
        params.weak_weight,
        model=model,
        args=_training_arguments(params, checkpoints / run_id, evaluate_first=not checkpoint),
        train_dataset=training,
        eval_dataset=held_out,
        callbacks=list(callbacks),
    )
    first_step = _step(checkpoint) if checkpoint else 0
    if checkpoint:
        logger.info("pretrain: resuming from %s", checkpoint)
    seconds = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None).metrics["train_runtime"]
    remove_heads(model, keep_labels=bool(params.weak_weight))
    _write_model(model, tokenizer, params.length, folder)
    shutil.rmtree(checkpoints / run_id)
    return {
        "parameters": sum(p.numel() for p in model.base_model.parameters()),
        "packs": {TRAIN: len(training), HELD_OUT: len(held_out)},
        "tokens": params.steps * params.batch_size * params.length,
        "passes": params.steps * params.batch_size / len(training),
        "held_loss": _held_out_losses(trainer.state.log_history),
        "bf16": uses_bf16(params.precision),
        "tokens_per_second": (params.steps - first_step) * params.batch_size * params.length / seconds,
    }


def _find_checkpoint(folder: Path, steps: int) -> Path | None:
    """Return the last checkpoint before the last step: the Trainer would do one step more if it resumed there."""
    checkpoint = last_checkpoint(folder)
    if checkpoint and _step(checkpoint) == steps:
        shutil.rmtree(checkpoint)
        checkpoint = last_checkpoint(folder)
    return checkpoint


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _build_model(
    params: PretrainParams, tokenizer: PreTrainedTokenizerBase, training: PackedDataset, initialize: bool
) -> PreTrainedModel:
    """Return the model to train; `initialize` is False if the weights of a checkpoint replace its weights."""
    if params.base_model != SCRATCH:
        return load_base_model(params)[0]
    model = scratch_masked_lm(params, tokenizer)
    if params.skipgram_epochs and initialize:
        _initialize_embeddings(model, params, tokenizer, training)
    return model


def _initialize_embeddings(
    model: PreTrainedModel, params: PretrainParams, tokenizer: PreTrainedTokenizerBase, training: PackedDataset
) -> None:
    """Replace the token embeddings of a model by skip-gram vectors of the training text."""
    vectors = skipgram_vectors(
        training.fields["input_ids"],
        tokenizer.sep_token_id,
        tokenizer.all_special_ids,
        params.hidden_size,
        params.skipgram_epochs,
        params.seed,
    )
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[list(vectors)] = torch.stack([torch.from_numpy(vector) for vector in vectors.values()])


def _training_arguments(params: PretrainParams, checkpoints: Path, evaluate_first: bool) -> TrainingArguments:
    decay = {"num_decay_steps": params.decay_steps, "decay_type": "linear"}
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=2 * params.batch_size,
        max_steps=params.steps,
        learning_rate=params.lr,
        weight_decay=params.weight_decay,
        adam_beta2=0.98,
        warmup_steps=params.warmup_steps,
        lr_scheduler_type=_SCHEDULES[params.schedule],
        lr_scheduler_kwargs=decay if params.schedule == "trapezoid" else {},
        **precision_settings(params.precision),
        optim="adamw_torch_fused",
        seed=params.seed,
        eval_strategy="steps",
        eval_steps=params.evaluate_every,
        eval_on_start=evaluate_first,
        save_steps=params.evaluate_every,
        save_total_limit=2,
        logging_steps=min(50, params.evaluate_every),
        prediction_loss_only=True,
        remove_unused_columns=False,
        # Without label names the Trainer computes no loss in an evaluation.
        label_names=["input_ids"],
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, folder: Path) -> None:
    tokenizer.model_max_length = max_length
    with atomic_directory(folder) as draft:
        model.half().save_pretrained(draft)
        tokenizer.save_pretrained(draft)


def _held_out_losses(history: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the losses of the first and the last evaluation in the Trainer's log."""
    evaluations = [
        {
            name.removeprefix("eval_"): row[name]
            for name in ("eval_loss", "eval_masked", "eval_tags", "eval_weak")
            if name in row
        }
        for row in history
        if "eval_loss" in row
    ]
    return {"before": evaluations[0], "after": evaluations[-1]}
