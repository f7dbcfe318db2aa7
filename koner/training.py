"""Fine-tuning a token classifier with transformers' Trainer: best epoch kept, interrupted runs taken up again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
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

from koner.alignment import Retagged
from koner.batches import PackingCollator, assert_packs
from koner.boundaries import LABELS, tag_of
from koner.errors import KonerError
from koner.heads import plain_head, share_head
from koner.labels import IGNORED, TAGS
from koner.outputs import whole_folder
from koner.params import Params
from koner.regularization import RegularizedTrainer
from koner.scoring import sequence_scores

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


@dataclass(frozen=True)
class Trained:
    """What a training run gives: its per-epoch table, the best epoch's row, and how fast it went."""

    history: list[dict[str, Any]]
    best: dict[str, Any]
    seconds: float
    samples_per_second: float


class WindowDataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The windows of retagged sentences as the collator takes them: `input_ids` and `labels`."""

    def __init__(self, sentences: Iterable[Retagged]) -> None:
        self.items = [
            {"input_ids": list(window.input_ids), "labels": list(labels)}
            for r in sentences
            for window, labels in zip(r.encoded.windows, r.labels, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        return self.items[i]


class _Trainer(RegularizedTrainer):
    data_collator: Any

    def get_train_dataloader(self) -> Any:
        if self.params.batching != "packed":
            return super().get_train_dataloader()
        # Only for the training part: the development part's scores are counted window by window.
        padding = self.data_collator
        self.data_collator = PackingCollator(self.accelerator.unwrap_model(self.model))
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = padding


def uses_bf16(precision: str) -> bool:
    """Tells whether to train in bfloat16: always for `bf16`, for `auto` where the GPU or CPU has it in hardware."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


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


def token_scores(prediction: EvalPrediction) -> dict[str, float]:
    """Scores the development part on tokens, as the published recipe chooses its epoch."""
    gold: list[list[str]] = []
    predicted: list[list[str]] = []
    best = np.asarray(prediction.predictions).argmax(axis=-1)
    for labels, tags in zip(np.asarray(prediction.label_ids), best, strict=True):
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
    training: Sequence[Retagged],
    development: Sequence[Retagged],
    folder: Path,
    checkpoints: Path,
    run_id: str,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Fine-tunes the base model and writes the best epoch's model, configuration and tokenizer to `folder`.

    The epoch is chosen by token F1 on the development part; training stops after `patience` epochs without a better
    one (0: never). A run that was killed goes on from the last checkpoint under `checkpoints/run_id`; checkpoints of
    other runs are removed at the start, and this run's once the model is written.
    """
    own_checkpoints = checkpoints / run_id
    if checkpoints.is_dir():
        for other in checkpoints.iterdir():
            if other != own_checkpoints:
                shutil.rmtree(other)
    resumed = last_checkpoint(own_checkpoints)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
    arguments = TrainingArguments(
        output_dir=str(own_checkpoints),
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=4 * params.batch_size,
        num_train_epochs=params.epochs,
        learning_rate=params.lr,
        weight_decay=params.weight_decay,
        warmup_steps=params.warmup_share,
        bf16=uses_bf16(params.precision),
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
    )
    # The head's weights are drawn here.
    torch.manual_seed(params.seed)
    labels = LABELS if params.boundaries else TAGS
    model = build_model(base, params.dropout, labels)
    if params.boundaries:
        share_head(model, list(labels))
    if params.batching == "packed":
        assert_packs(model, PackingCollator(model))
    trainer = _Trainer(
        params,
        model=model,
        args=arguments,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=WindowDataset(training),
        eval_dataset=WindowDataset(development),
        compute_metrics=token_scores,
        callbacks=[*callbacks, *([EarlyStoppingCallback(params.patience)] if params.patience else [])],
    )
    if resumed:
        print(f"train: goes on from {resumed}", flush=True)
    result = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    plain_head(model)
    tokenizer.model_max_length = params.max_length
    with whole_folder(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    shutil.rmtree(own_checkpoints, ignore_errors=True)
    history = epoch_table(trainer.state.log_history)
    best = max(history, key=lambda row: row["f1"])
    return Trained(
        history, best, float(result.metrics["train_runtime"]), float(result.metrics["train_samples_per_second"])
    )


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
