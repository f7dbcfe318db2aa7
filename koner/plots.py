"""Pictures of the pipeline's tables, as PNG; labels are ASCII, so that no Korean font is needed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

from koner.errors import KonerError
from koner.labels import TYPES

# Files are drawn, never windows.
plt.switch_backend("Agg")


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No date or version inside: the same figures give the same file.
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Writes rows as the CSV that `dvc plots` reads; `columns` name its head where there may be no row to tell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, Any]]:
    """Reads a table of numbers written by `write_table`; raises `KonerError` where there is none."""
    if not path.is_file():
        raise KonerError(f"{path} is missing; run `dvc repro`")
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: int(v) if v.isdigit() else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def plot_epochs(history: Sequence[Mapping[str, Any]], best_epoch: int, path: Path) -> None:
    """Draws losses and development scores by epoch, with the best epoch marked."""
    epochs = [row["epoch"] for row in history]
    figure, (losses, scores) = plt.subplots(1, 2, figsize=(11, 4))
    for column in ("train_loss", "eval_loss"):
        losses.plot(epochs, [row[column] for row in history], marker=".", label=column.replace("_", " "))
    for column in ("precision", "recall", "f1", "accuracy"):
        scores.plot(epochs, [row[column] for row in history], marker=".", label=column)
    for axes, title in ((losses, "loss"), (scores, "development part, by token")):
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best epoch: {best_epoch}")
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    scores.set_ylim(0, 1.02)
    _save(figure, path)


def plot_confusion(matrix: np.ndarray, labels: Sequence[str], title: str, path: Path) -> None:
    """Draws a confusion matrix; cells show counts, colours the share of the row (the actual tag)."""
    size = 1.6 + 0.62 * len(labels)
    figure, axes = plt.subplots(figsize=(size, size))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    display = ConfusionMatrixDisplay(shares, display_labels=list(labels))
    display.plot(ax=axes, cmap="Blues", include_values=False, colorbar=False, xticks_rotation=45)
    for i, j in np.ndindex(matrix.shape):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{matrix[i, j]}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(title=title, xlabel="predicted", ylabel="actual")
    _save(figure, path)


def plot_balance(shares: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draws each type's share of the entities, part beside part."""
    figure, axes = plt.subplots(figsize=(8, 3.6))
    width = 0.8 / len(shares)
    for i, (part, share) in enumerate(shares.items()):
        positions = np.arange(len(TYPES)) + (i - (len(shares) - 1) / 2) * width
        axes.bar(positions, [100 * share[type_] for type_ in TYPES], width, label=part)
    axes.set_xticks(np.arange(len(TYPES)), TYPES)
    axes.set(ylabel="% of the part's entities", title="entity types by part")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_reliability(bins: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draws the share of entities that are right against their mean score, before and after calibration."""
    figure, axes = plt.subplots(figsize=(4.6, 4.4))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="honest")
    for name, rows in bins.items():
        axes.plot([row["score"] for row in rows], [row["right"] for row in rows], marker="o", label=name)
    axes.set(xlabel="mean score", ylabel="share right", title="reliability of entity scores", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)
