"""The evaluation as one HTML page: figures, plots, and the worst errors marked in their sentences.

The page loads nothing: style, script and plots are part of it. The same input gives the same file.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader

from koner.errors import KonerError
from koner.evaluation import protocols
from koner.evaluation.error_kinds import KINDS
from koner.evaluation.slices import SMALL
from koner.inference.predictions import Prediction
from koner.labels.styles import LabelStyle, stylesheet
from koner.report.error_cards import Card, error_cards, types_of
from koner.report.plots import best_epoch, epochs_svg, most_confused, reliability_svg
from koner.storage.outputs import write_text

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    path: Path,
    *,
    title: str,
    evaluation: dict[str, Any],
    slices: dict[str, Any],
    semeval: dict[str, Any],
    generalisation: dict[str, Any],
    history: list[dict[str, Any]],
    confusions: dict[str, tuple[np.ndarray, list[str]]],
    reliability: dict[str, list[dict[str, Any]]],
    predictions: Sequence[Prediction],
    styles: Sequence[LabelStyle],
    params: dict[str, Any],
    worst: int = 200,
) -> None:
    """Write the page; empty or missing input is left out.

    Args:
        path: The file to write.
        title: The title of the page.
        evaluation: The figures of `metrics/evaluate.json`.
        slices: The slices of `metrics/breakdown.json`.
        semeval: The kinds of error of `metrics/breakdown.json`.
        generalisation: The comparison of parts of `metrics/breakdown.json`.
        history: A row per epoch.
        confusions: Confusion matrices, rows actual, with their labels, by name.
        reliability: The rows of `koner.evaluation.calibration.reliability` for 'before' and 'after'.
        predictions: The predictions for the test part.
        styles: The types, in the order to show them.
        params: The parameters of the run.
        worst: The number of sentences with errors to show.

    Raises:
        KonerError: If a matrix does not fit its labels, an entity lies outside its sentence, or `worst` is negative.
    """
    if worst < 0:
        raise KonerError(f"worst: {worst} is not allowed; it must be at least 0")
    content: dict[str, Any] = {
        "figures": _figures(evaluation),
        "epochs": epochs_svg(history) if history else {},
        "slices": {by: rows for by, rows in slices.items() if rows},
        "confusions": sorted(
            (_confusion(name, *confusion) for name, confusion in confusions.items()), key=lambda c: int(c["total"])
        ),
        "calibration": evaluation.get("calibration") or any(reliability.values()),
        "semeval": semeval,
        "generalisation": generalisation,
        "errors": predictions,
        "params": params,
    }
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = _percent
    script = environment.get_template("report.js").render()
    page = environment.get_template("report.html.j2").render(
        content,
        content=content,
        title=title,
        evaluation=evaluation,
        protocols=[protocol for protocol in protocols.PROTOCOLS if protocol.name in evaluation],
        history=history,
        best_epoch=best_epoch(history) if history else None,
        reliability=reliability,
        reliability_chart=reliability_svg(reliability),
        small=SMALL,
        types={style.label: "" if style.en == style.label else style.en for style in styles},
        classes={style.label: f"t{i}" for i, style in enumerate(styles)},
        stylesheet=stylesheet(styles),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **_error_section(error_cards(predictions), worst),
    )
    write_text(path, page + "\n")


def _error_section(cards: Sequence[Card], worst: int) -> dict[str, Any]:
    """Return the values of the section on errors."""
    shown = cards[:worst]
    errors = [e for card in shown for e in card.errors]
    return {
        "cards": shown,
        "all_cards": len(cards),
        "all_errors": sum(len(card.errors) for card in cards),
        # A type may have the name of a kind.
        "in_shown": Counter(key for e in errors for key in (("kind", e.kind), *(("type", t) for t in types_of(e)))),
        "in_shown_types": sorted({type_ for e in errors for type_ in types_of(e)}),
        "kinds": [kind for kind in KINDS if kind != "correct"],
        "types_of": types_of,
    }


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def _figures(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    intervals = evaluation.get("intervals", {})
    return [
        {"name": figure.title, "value": scores[figure.key], "scores": scores if figure.key == "f1" else {}}
        | intervals.get(protocol.path(figure), {})
        for protocol in protocols.PROTOCOLS
        for figure in protocol.figures
        if figure.title and figure.key in (scores := evaluation.get(protocol.name, {}))
    ]


def _confusion(name: str, matrix: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    if matrix.shape != (len(labels), len(labels)):
        raise KonerError(f"confusions: '{name}' has {len(labels)} labels for a matrix of {matrix.shape}")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shown = most_confused(matrix)
    names, square = [labels[i] for i in shown], np.ix_(shown, shown)
    rows = [list(zip(*row, strict=True)) for row in zip(matrix[square].tolist(), shares[square].tolist(), strict=True)]
    is_other = ~np.eye(len(labels), dtype=bool)
    is_other[square] = False
    others = sorted(np.argwhere(is_other & (matrix > 0)).tolist(), key=lambda cell: -int(matrix[*cell]))
    return {
        "name": name,
        "labels": names,
        "total": len(labels),
        "rows": dict(zip(names, rows, strict=True)),
        "others": [(labels[i], labels[j], int(matrix[i, j]), float(shares[i, j])) for i, j in others],
    }
