"""Plots of the pipeline's tables, as PNG files and as SVG for the HTML report.

Korean labels are drawn with NanumGothic, which is installed with koner, so the same figures give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import ConfusionMatrixDisplay

from koner.storage.outputs import atomic_file

# Files are written, and no window is opened.
plt.switch_backend("Agg")
# A dollar sign in a label is no formula.
plt.rcParams["text.parse_math"] = False
# The package of the font is not imported: it would set it for all text.
_FONT_FILE = str(distribution("koreanize-matplotlib").locate_file("koreanize_matplotlib/fonts/NanumGothic.ttf"))
font_manager.fontManager.addfont(_FONT_FILE)
# For each character, the first font that has it.
_FONTS = ["DejaVu Sans", "NanumGothic"]
plt.rcParams["font.family"] = _FONTS

MOST_CONFUSED = 20

_LOSSES = ("train_loss", "eval_loss")
_SCORES = ("precision", "recall", "f1", "accuracy")
# A colour that no plot uses; in SVG it becomes the text colour of the page, which is light or dark.
_PAGE_COLOUR = "#010203"
_SVG_STYLE: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _PAGE_COLOUR),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "legend.facecolor", "legend.edgecolor"), "none"),
    "grid.color": _PAGE_COLOUR,
    # Legible on a light and on a dark page.
    "axes.prop_cycle": plt.cycler(color=["#c8553d", "#2f7fb8", "#3a9a5b", "#a8791a"]),
    "font.family": "sans-serif",
    "svg.fonttype": "none",
}

_FEW_TYPES = 12
_MOST_TYPES = 40

_Draw = Callable[[Any], None]


def plot_epochs(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot the losses and the development scores by epoch, and mark the best epoch, that of the highest F1."""
    figure, (losses, scores) = plt.subplots(1, 2, figsize=(11, 4))
    _draw_losses(losses, history)
    _draw_scores(scores, history)
    _save_png(figure, path)


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """Return the epoch with the highest F1, the first one of equals, as training selects it."""
    return int(max(history, key=lambda row: row["f1"])["epoch"])


def epochs_svg(history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the plots of `plot_epochs` as SVG by title, without those that have no values."""
    charts: dict[str, tuple[_Draw, tuple[str, ...]]] = {
        "Loss by epoch": (lambda axes: _draw_losses(axes, history), _LOSSES),
        "Development scores by epoch": (lambda axes: _draw_scores(axes, history), _SCORES),
    }
    return {
        title: _svg(draw, (5.4, 3.6), title)
        for title, (draw, columns) in charts.items()
        if any(_values(history, column) for column in columns)
    }


def plot_confusion(matrix: np.ndarray, labels: Sequence[str], title: str, path: Path) -> None:
    """Plot a confusion matrix; cells show counts, and colours the share of the row (the actual tag).

    Of many tags, those of `most_confused` are shown.
    """
    total = len(labels)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shown = most_confused(matrix)
    matrix, shares, labels = matrix[np.ix_(shown, shown)], shares[np.ix_(shown, shown)], [labels[i] for i in shown]
    if len(labels) < total:
        title += f": the {len(labels)} most confused of {total}"
    size = 1.6 + 0.62 * len(labels)
    figure, axes = plt.subplots(figsize=(size, size))
    display = ConfusionMatrixDisplay(shares, display_labels=_drawable(labels))
    display.plot(ax=axes, cmap="Blues", include_values=False, colorbar=False, xticks_rotation=45)
    for i, j in np.ndindex(matrix.shape):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{matrix[i, j]}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(title=title, xlabel="predicted", ylabel="actual")
    _save_png(figure, path)


def most_confused(matrix: np.ndarray) -> list[int]:
    """Return the rows of a confusion matrix to show, in their order: all of a few, else the 20 with the most errors.

    O, the last row, is shown in addition.
    """
    if len(matrix) <= MOST_CONFUSED + 1:
        return list(range(len(matrix)))
    errors = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    worst = np.argsort(-errors[:-1], kind="stable")[:MOST_CONFUSED]
    return [*sorted(worst.tolist()), len(matrix) - 1]


def _drawable(names: Sequence[str]) -> list[str]:
    """Return names with their characters that no font has as code points, such as `U+1F4F1`."""
    known = _known_characters()
    return ["".join(c if c in known else f"U+{ord(c):04X}" for c in name) for name in names]


@cache
def _known_characters() -> frozenset[str]:
    files = [font_manager.findfont(name, fallback_to_default=False) for name in _FONTS]
    return frozenset(chr(code) for file in files for code in FT2Font(file).get_charmap())


def plot_balance(shares: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Plot the share of each type among the entities of each part, of the 40 most frequent types at most."""
    all_types = list(next(iter(shares.values())))
    frequent = sorted(all_types, key=lambda type_: -max(share[type_] for share in shares.values()))[:_MOST_TYPES]
    types = [type_ for type_ in all_types if type_ in frequent]
    figure, axes = plt.subplots(figsize=(max(8, 0.3 * len(types)), 3.6))
    width = 0.8 / len(shares)
    for i, (part, share) in enumerate(shares.items()):
        positions = np.arange(len(types)) + (i - (len(shares) - 1) / 2) * width
        axes.bar(positions, [100 * share[type_] for type_ in types], width, label=part)
    axes.set_xticks(np.arange(len(types)), _drawable(types), rotation=0 if len(types) <= _FEW_TYPES else 90)
    title = "entity types by part"
    if len(types) < len(all_types):
        title += f": the {len(types)} most frequent of {len(all_types)}"
    axes.set(ylabel="% of the part's entities", title=title)
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    _save_png(figure, path)


def plot_reliability(bins: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Plot the share of correct entities against their mean score, before and after calibration."""
    figure, axes = plt.subplots(figsize=(4.6, 4.4))
    _draw_reliability(axes, bins)
    _save_png(figure, path)


def reliability_svg(bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """Return the plot of `plot_reliability` as SVG; None if there are no entities."""
    if not any(bins.values()):
        return None
    return _svg(lambda axes: _draw_reliability(axes, bins), (4.6, 4.4), "reliability")


def _draw_losses(axes: Any, history: Sequence[Mapping[str, Any]]) -> None:
    _draw_columns(axes, history, _LOSSES, "loss")


def _draw_scores(axes: Any, history: Sequence[Mapping[str, Any]]) -> None:
    _draw_columns(axes, history, _SCORES, "development part, by token")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))


def _draw_columns(axes: Any, history: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str) -> None:
    for column in columns:
        if points := _values(history, column):
            label = column.replace("_", " ").replace("f1", "F1")
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    best = best_epoch(history)
    axes.axvline(best, color="grey", linestyle=":", label=f"best epoch: {best}")
    axes.set(xlabel="epoch", title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()


def _values(history: Sequence[Mapping[str, Any]], column: str) -> list[tuple[int, float]]:
    """Return the epochs with a finite value of a column, and these values."""
    return [(row["epoch"], row[column]) for row in history if math.isfinite(row.get(column, math.nan))]


def _draw_reliability(axes: Any, bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect calibration")
    most = max((row["entities"] for rows in bins.values() for row in rows), default=1)
    for name, rows in bins.items():
        scores, shares = [row["score"] for row in rows], [row["right"] for row in rows]
        (line,) = axes.plot(scores, shares, marker="o", markersize=4, label=name)
        # The areas of the points, in square points, show the number of entities.
        areas = [16 + 120 * row["entities"] / most for row in rows]
        axes.scatter(scores, shares, s=areas, color=line.get_color(), zorder=2, clip_on=False)
    axes.set(xlabel="mean score", ylabel="share correct", title="reliability of entity scores", xlim=(0, 1))
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend()


def _save_png(figure: Any, path: Path) -> None:
    with atomic_file(path) as draft:
        # Without a date and a version, the same figures give the same file.
        figure.savefig(draft, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _svg(draw: _Draw, size: tuple[float, float], salt: str) -> str:
    """Return a plot as an `svg` element to embed in HTML, in the colours of the page around it.

    Args:
        draw: The function that draws on the axes.
        size: Width and height in inches.
        salt: Makes the ids in the element differ from those of the other plots on the page.
    """
    # Without a salt the ids, and so the file, would be random.
    with plt.rc_context({**_SVG_STYLE, "svg.hashsalt": salt}):
        figure, axes = plt.subplots(figsize=size)
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    element = file.getvalue()
    element = element[element.index("<svg") :].strip().replace(_PAGE_COLOUR, "currentColor")
    element = re.sub(r"\s*<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    # HTML needs no namespaces; ids of groups would repeat from plot to plot, and only ids of paths are referenced.
    element = re.sub(r' xmlns(:\w+)?="[^"]*"', "", element)
    element = re.sub(r'<g id="[^"]*"', "<g", element)
    return re.sub(r' (width|height)="[\d.]+pt"', "", element, count=2)
