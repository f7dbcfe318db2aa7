"""Metrics on the development part, and the table of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from koner.labels.bio import IGNORE_INDEX
from koner.labels.label_set import LabelSet
from koner.labels.sequence_scores import sequence_scores

EPOCH_COLUMNS = ("epoch", "train_loss", "eval_loss", "precision", "recall", "f1", "accuracy")


def argmax_labels(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the ids of the best-scoring labels, (windows, tokens), so that the Trainer does not keep all logits.

    Args:
        logits: (windows, tokens, labels).
        labels: The gold labels, unused; the Trainer passes them.
    """
    return logits.argmax(dim=-1)


def token_scores(prediction: EvalPrediction, labels: LabelSet) -> dict[str, float]:
    """Return token-level scores of predictions made with `argmax_labels`, by which KLUE's recipe selects the epoch."""
    gold: list[list[str]] = []
    predicted: list[list[str]] = []
    for gold_ids, predicted_ids in zip(
        np.asarray(prediction.label_ids), np.asarray(prediction.predictions), strict=True
    ):
        is_scored = gold_ids != IGNORE_INDEX
        gold.append([labels.tags[i] for i in gold_ids[is_scored].tolist()])
        predicted.append([labels.tags[i] for i in predicted_ids[is_scored].tolist()])
    return sequence_scores(gold, predicted)


def epoch_table(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row with `EPOCH_COLUMNS` for every evaluated epoch of the Trainer's log history."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in log:
        epoch = round(entry["epoch"])
        row = rows.setdefault(epoch, {"epoch": epoch})
        # The last entry's `train_loss` is that of the whole run; an epoch's is called `loss`.
        if "loss" in entry:
            row["train_loss"] = entry["loss"]
        if "eval_loss" in entry:
            row.update({column: entry[f"eval_{column}"] for column in EPOCH_COLUMNS[3:]}, eval_loss=entry["eval_loss"])
    return [{column: row[column] for column in EPOCH_COLUMNS} for row in rows.values() if "f1" in row]
