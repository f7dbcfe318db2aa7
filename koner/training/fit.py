"""Fine-tuning of a token classifier with the transformers Trainer."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    TrainerCallback,
)

from koner.errors import KonerError
from koner.labels.label_set import LabelSet
from koner.params import Params
from koner.storage.outputs import atomic_directory
from koner.training.arguments import training_arguments
from koner.training.checkpoints import last_checkpoint, remove_other_runs
from koner.training.collator import PackingCollator, check_packing_support
from koner.training.dataset import WindowDataset
from koner.training.distributed import barrier, broadcast, check_equal, check_shared_folder, rank
from koner.training.metrics import argmax_labels, epoch_table, token_scores
from koner.training.model import average_with_base, build_model
from koner.training.trainer import WindowTrainer

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run: the rows of all epochs, the row of the best one, and the speed."""

    history: list[dict[str, Any]]
    best: dict[str, Any]
    seconds: float
    samples_per_second: float


def train(
    params: Params,
    base: Path,
    labels: LabelSet,
    training: WindowDataset,
    development: WindowDataset,
    folder: Path,
    checkpoints: Path,
    run_id: str,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingResult:
    """Fine-tune the base model and write the model of the best epoch, with its tokenizer, to `folder`.

    The epoch with the highest token-level F1 on the development part is the best. Its weights are averaged with those
    of the base model if `params.base_share` is not 0. Training stops early after
    `params.patience` epochs without a better one (0: never). A run that was interrupted resumes from its last
    checkpoint. In distributed training every process calls this function with the same arguments and gets the same
    result; the processes split each batch, and only rank 0 writes.

    Args:
        params: The parameters of the pipeline.
        base: The folder of the base model.
        labels: The label set of the windows.
        training: The windows to train on.
        development: The windows to evaluate on after every epoch.
        folder: The folder that the model is written to, atomically.
        checkpoints: The folder of checkpoints. Those of this run are kept in the subfolder `run_id` until the model is
            written; those of other runs are removed.
        run_id: The name of the run, equal for runs with the same parameters and input.
        callbacks: Callbacks for the Trainer.

    Raises:
        KonerError: If the base model cannot be trained with these parameters, or if the processes were called with
            different arguments or do not share the folder of checkpoints.
    """
    # Deterministic mode fills new tensors with NaN, which takes a seventh of a step; none is read uninitialized here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    resumed = _prepare_checkpoints(params, training, checkpoints, run_id)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
    trainer = _build_trainer(params, base, labels, tokenizer, training, development, checkpoints / run_id, callbacks)
    if resumed and rank() == 0:
        _logger.info("train: resuming from %s", resumed)
    metrics = _run(trainer, params, resumed)
    _write_model(trainer, params, base, labels, tokenizer, folder)
    if rank() == 0:
        shutil.rmtree(checkpoints / run_id, ignore_errors=True)
    barrier()
    history = epoch_table(trainer.state.log_history)
    best = max(history, key=lambda row: row["f1"])
    return TrainingResult(history, best, float(metrics["train_runtime"]), float(metrics["train_samples_per_second"]))


def _prepare_checkpoints(params: Params, training: WindowDataset, checkpoints: Path, run_id: str) -> Path | None:
    """Return the checkpoint to resume from, if there is one, after removing those of other runs."""
    check_equal({"the run's parameters or input": run_id, "the number of training windows": len(training)})
    if params.machines > 1:
        check_shared_folder(checkpoints)
    if rank() == 0:
        remove_other_runs(checkpoints, run_id)
    return broadcast(last_checkpoint(checkpoints / run_id) if rank() == 0 else None)


def _build_trainer(
    params: Params,
    base: Path,
    labels: LabelSet,
    tokenizer: PreTrainedTokenizerBase,
    training: WindowDataset,
    development: WindowDataset,
    checkpoints: Path,
    callbacks: Sequence[TrainerCallback],
) -> WindowTrainer:
    # The weights of the new head are drawn at random.
    torch.manual_seed(params.seed)
    model = build_model(base, params.dropout, labels)
    arguments = training_arguments(params, model, checkpoints)
    if params.batching == "packed":
        check_packing_support(model, PackingCollator(model))
    trainer = WindowTrainer(
        params,
        model=model,
        args=arguments,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=training,
        eval_dataset=development,
        compute_metrics=partial(token_scores, labels=labels),
        preprocess_logits_for_metrics=argmax_labels,
        callbacks=[*callbacks, *([EarlyStoppingCallback(params.patience)] if params.patience else [])],
    )
    if params.sharding == "fsdp" and not trainer.is_fsdp_enabled:
        # Accelerate would silently train without sharding.
        raise KonerError("sharding: 'fsdp' needs a GPU for each process")
    return trainer


def _run(trainer: WindowTrainer, params: Params, resumed: Path | None) -> dict[str, float]:
    """Train, and return the Trainer's metrics of speed."""
    if rank():
        # With one seed in all processes, dropout would mask the same units in every part of a batch.
        torch.manual_seed(params.seed + rank())
    with warnings.catch_warnings():
        # Torch warns about the way in which transformers and accelerate call it.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
        metrics: dict[str, float] = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None).metrics
    return metrics


def _write_model(
    trainer: WindowTrainer,
    params: Params,
    base: Path,
    labels: LabelSet,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    model = trainer.model
    # Collecting the weights of a sharded model needs all processes.
    weights = trainer.accelerator.get_state_dict(model) if params.sharding == "fsdp" else None
    barrier()
    if rank():
        return
    if weights is not None:
        model = build_model(base, params.dropout, labels)
        model.load_state_dict(weights)
    if params.base_share and not average_with_base(model, base, params.base_share, labels):
        _logger.info("train: base_share has no effect: the base model has no head for these labels")
    tokenizer.model_max_length = params.max_length
    with atomic_directory(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
