"""Fine-tuning a token classifier with transformers' Trainer: best epoch kept, interrupted runs taken up again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from koner.batches import PackingCollator, assert_packs
from koner.boundaries import LABELS, tag_of
from koner.distributed import must_agree, must_share, rank, told_by_first, wait, world
from koner.errors import KonerError
from koner.heads import plain_head, share_head
from koner.labels import IGNORED, TAGS
from koner.memory import keep_memory
from koner.outputs import whole_folder
from koner.params import Params
from koner.scoring import sequence_scores
from koner.sharing import SharingTrainer
from koner.windows import WindowDataset

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


@dataclass(frozen=True)
class Trained:
    """What a training run gives: its per-epoch table, the best epoch's row, and how fast it went."""

    history: list[dict[str, Any]]
    best: dict[str, Any]
    seconds: float
    samples_per_second: float


def uses_bf16(precision: str) -> bool:
    """Tells whether to train in bfloat16: always for `bf16`, for `auto` where it is faster.

    That is on GPUs that have it in hardware and CPUs with AMX. AVX-512's bf16 instructions alone are slower than fp32.
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def precision_settings(precision: str) -> dict[str, bool]:
    """What the Trainer has to be told to train in a precision."""
    bf16 = uses_bf16(precision)
    # Otherwise the Trainer takes bf16 for a matter of GPUs.
    return {"bf16": bf16, "use_cpu": bf16 and not torch.cuda.is_available()}


def build_model(base: Path, dropout: float, labels: Sequence[str] = TAGS) -> PreTrainedModel:
    """Puts a linear head over the labels on a base model; raises `KonerError` where it can't take one."""
    try:
        model = AutoModelForTokenClassification.from_pretrained(
            base,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            dtype=torch.float32,
            local_files_only=True,
        )
    except ValueError as error:
        raise KonerError(f"base_model: no token classifier can be put on it: {error}") from None
    for name in _DROPOUTS:
        if hasattr(model.config, name):
            setattr(model.config, name, dropout)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return model


def best_labels(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The ids of the labels that score best, (windows, tokens): kept of the development part in place of all scores."""
    return logits.argmax(dim=-1)


def token_scores(prediction: EvalPrediction) -> dict[str, float]:
    """Scores `best_labels` of the development part on tokens, as the published recipe chooses its epoch."""
    gold: list[list[str]] = []
    predicted: list[list[str]] = []
    for labels, tags in zip(np.asarray(prediction.label_ids), np.asarray(prediction.predictions), strict=True):
        counted = labels != IGNORED
        gold.append([tag_of(LABELS[i]) for i in labels[counted].tolist()])
        predicted.append([tag_of(LABELS[i]) for i in tags[counted].tolist()])
    return sequence_scores(gold, predicted)


def fingerprint(params: Params, inputs: Sequence[Path]) -> str:
    """A digest of the parameters and input files that a training run depends on; its checkpoints go by it."""
    digest = hashlib.sha256(params.model_dump_json().encode())
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.name.encode())
                with file.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def last_checkpoint(folder: Path) -> Path | None:
    """The latest whole checkpoint in `folder`; one that a kill left half-written is removed."""
    found: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        state = path / "trainer_state.json"  # written last
        with contextlib.suppress(OSError, ValueError):
            found[int(json.loads(state.read_text())["global_step"])] = path
            continue
        shutil.rmtree(path, ignore_errors=True)
    return found[max(found)] if found else None


def train(
    params: Params,
    base: Path,
    training: WindowDataset,
    development: WindowDataset,
    folder: Path,
    checkpoints: Path,
    run_id: str,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Fine-tunes the base model and writes the best epoch's model, configuration and tokenizer to `folder`.

    The epoch is chosen by token F1 on the development part; training stops after `patience` epochs without a better
    one (0: never). A run that was killed goes on from the last checkpoint under `checkpoints/run_id`; checkpoints of
    other runs are removed at the start, and this run's once the model is written.

    Processes that have joined (`koner.distributed.joined`) each call this with the same arguments and get the same
    figures; a batch is shared between them, and only the first of them writes. Raises `KonerError` where they differ in
    what they were given or do not share the folder of the checkpoints.
    """
    keep_memory()
    # Determinism would write NaN over all memory before it is used: a seventh of a step, and nothing reads it before.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    must_agree({"the run's parameters or input": run_id, "the number of training windows": len(training)})
    if params.machines > 1:
        must_share(checkpoints)
    own_checkpoints = checkpoints / run_id
    if rank() == 0 and checkpoints.is_dir():
        for other in checkpoints.iterdir():
            if other != own_checkpoints:
                shutil.rmtree(other)
    resumed = told_by_first(last_checkpoint(own_checkpoints) if rank() == 0 else None)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
    # The head's weights are drawn here.
    torch.manual_seed(params.seed)
    model = _new_model(params, base)
    arguments = TrainingArguments(
        output_dir=str(own_checkpoints),
        per_device_train_batch_size=params.batch_size // world(),
        per_device_eval_batch_size=4 * params.batch_size // world(),
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
        **precision_settings(params.precision) | _shared_settings(params, model),
    )
    if params.batching == "packed":
        assert_packs(model, PackingCollator(model))
    # Of several GPUs the Trainer would give each a batch of this size.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    trainer = SharingTrainer(
        params,
        model=model,
        args=arguments,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=training,
        eval_dataset=development,
        compute_metrics=token_scores,
        preprocess_logits_for_metrics=best_labels,
        callbacks=[*callbacks, *([EarlyStoppingCallback(params.patience)] if params.patience else [])],
    )
    if params.sharding == "fsdp" and not trainer.is_fsdp_enabled:
        # Accelerate would go on without it.
        raise KonerError("sharding: 'fsdp' needs a GPU for each process")
    if resumed and rank() == 0:
        print(f"train: goes on from {resumed}", flush=True)
    if rank():
        # The same dropout in every share would be less dropout.
        torch.manual_seed(params.seed + rank())
    with warnings.catch_warnings():
        # Of torch's, about how transformers and accelerate call it.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
        result = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    sharded = params.sharding == "fsdp"
    weights = trainer.accelerator.get_state_dict(trainer.model) if sharded else None
    wait()
    if rank() == 0:
        if sharded:
            model = _new_model(params, base)
            model.load_state_dict(weights)
        plain_head(model)
        tokenizer.model_max_length = params.max_length
        with whole_folder(folder) as draft:
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        shutil.rmtree(own_checkpoints, ignore_errors=True)
    wait()
    history = epoch_table(trainer.state.log_history)
    best = max(history, key=lambda row: row["f1"])
    return Trained(
        history, best, float(result.metrics["train_runtime"]), float(result.metrics["train_samples_per_second"])
    )


def _new_model(params: Params, base: Path) -> PreTrainedModel:
    labels = LABELS if params.boundaries else TAGS
    model = build_model(base, params.dropout, labels)
    if params.boundaries:
        share_head(model, list(labels))
    return model


def _shared_settings(params: Params, model: PreTrainedModel) -> dict[str, Any]:
    """What the Trainer has to know where several processes train, and nothing where one does."""
    if world() == 1:
        return {}
    # The losses are divided by all processes' tokens in `compute_loss`; buffers are constants.
    settings: dict[str, Any] = {
        "use_cpu": not torch.cuda.is_available(),
        "average_tokens_across_devices": False,
        "ddp_broadcast_buffers": False,
    }
    if params.sharding == "fsdp":
        lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
        layers = {type(layer).__name__ for layers in lists for layer in layers}
        # By default accelerate shards the embeddings twice, which torch refuses.
        settings["fsdp_config"] = {
            "version": 2,
            "transformer_layer_cls_to_wrap": sorted(layers),
            "state_dict_type": "SHARDED_STATE_DICT",
        }
        settings["fsdp"] = True
    return settings


def epoch_table(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns the Trainer's log into rows of epoch, train_loss, eval_loss, precision, recall, f1 and accuracy."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in log:
        row = rows.setdefault(round(entry["epoch"]), {"epoch": round(entry["epoch"])})
        if "loss" in entry:
            row["train_loss"] = entry["loss"]
        row.update({k.replace("eval_", "", 1): v for k, v in entry.items() if k in _EVALUATED})
        if "eval_loss" in entry:
            row["eval_loss"] = entry["eval_loss"]
    columns = ("epoch", "train_loss", "eval_loss", "precision", "recall", "f1", "accuracy")
    return [{c: row[c] for c in columns} for row in rows.values() if "f1" in row]


_EVALUATED = ("eval_precision", "eval_recall", "eval_f1", "eval_accuracy")
