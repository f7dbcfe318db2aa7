"""The evaluation as one HTML page to look at: figures, curves, and the worst errors marked in their sentences.

The page loads nothing: style, script and the glyphs of its Hangul are inside it. The same input gives the same file.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fontTools import subset
from jinja2 import Environment, FileSystemLoader
from matplotlib.ticker import MaxNLocator

from koner.errors import KonerError
from koner.labels import Entity
from koner.predictions import Prediction
from koner.semeval import KINDS, SpanError, errors_of
from koner.slices import SMALL

_TEMPLATES = Path(__file__).parent / "templates"
_FONT_PACKAGE, _FONT_FILE = "koreanize_matplotlib", "fonts/NanumGothic.ttf"
_EAST_ASIAN = re.compile("[\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff]")
# Protocol and key in the evaluation, and the name on the page.
_FIGURES = (
    ("wordpiece", "f1", "wordpiece F1"),
    ("klue", "entity_f1", "KLUE entity F1"),
    ("klue", "char_f1", "KLUE character F1"),
    ("span", "f1", "span F1"),
    ("span", "macro_f1", "span macro F1"),
)
# Of a chart, in pixels before scaling: the drawing, and the axes' frame in it.
_WIDTH, _HEIGHT = 380, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 366, 24, 210
_UNIT = [0.0, 0.25, 0.5, 0.75, 1.0]

_Points = Sequence[tuple[float, float, float]]  # x, y, radius


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a sentence: plain where `label` is None, else an entity, 'correct' or in an error of `kind`."""

    text: str
    label: str | None = None
    kind: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A sentence with errors: its gold and its predicted line, and the errors in the order of the text."""

    prediction: Prediction
    gold: list[Piece]
    predicted: list[Piece]
    errors: list[SpanError]


@dataclass(frozen=True, slots=True)
class Chart:
    """A line chart laid out in pixels: ticks with their texts, and by name the points of each line (x, y, radius)."""

    title: str
    x_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: dict[str, list[tuple[float, float, float]]]
    marked: tuple[float, str] | None = None
    unit: bool = False


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
    params: dict[str, Any],
    worst: int = 200,
) -> None:
    """Writes the page: the figures as the metrics files hold them, and the `worst` sentences with errors.

    What is empty or missing is left out. `history` has a row to an epoch, `confusions` matrices with rows actual,
    `reliability` the rows of `koner.calibration.reliability` for 'before' and 'after'. Hangul shows in the browser's
    own Korean font, or else in glyphs inside the page where the package koreanize-matplotlib is installed. Raises
    `KonerError` where a matrix does not fit its labels, an entity lies outside its sentence, or `worst` is below 0.
    """
    if worst < 0:
        raise KonerError(f"worst: {worst} is not allowed; it must be at least 0")
    cards = error_cards(predictions)
    shown = cards[:worst]
    content: dict[str, Any] = {
        "figures": _figures(evaluation),
        "epochs": _epoch_charts(history),
        "slices": {by: leaves for by, leaves in slices.items() if leaves},
        "confusions": sorted(
            (_confusion(name, *confusion) for name, confusion in confusions.items()), key=lambda c: len(c["labels"])
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
    page = content | {
        "content": content,
        "title": title,
        "evaluation": evaluation,
        "history": history,
        "reliability": reliability,
        "reliability_chart": _reliability_chart(reliability),
        "cards": shown,
        "all_cards": len(cards),
        "all_errors": sum(len(card.errors) for card in cards),
        "in_shown": Counter(key for card in shown for e in card.errors for key in (e.kind, *types_of(e))),
        "kinds": [kind for kind in KINDS if kind != "correct"],
        "types_of": types_of,
        "small": SMALL,
        "frame": {"left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM, "width": _WIDTH, "height": _HEIGHT},
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "font": None,
    }
    template = environment.get_template("report.html.j2")
    page["font"] = _font(template.render(page))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(page) + "\n", encoding="utf-8", newline="\n")


def error_cards(predictions: Sequence[Prediction]) -> list[Card]:
    """The sentences with errors, the worst first.

    A sentence is as bad as the highest score of a wrong prediction in it. Sentences with missed entities alone come
    after all others, those with most missed characters first. Raises `KonerError` where an entity lies outside its
    sentence.
    """
    found = [(p, errors) for p in predictions if (errors := errors_of(p))]
    found.sort(key=lambda pair: _badness(pair[1]), reverse=True)
    return [_card(p, errors) for p, errors in found]


def types_of(error: SpanError) -> list[str]:
    """The types on the two sides of an error, gold first, each once."""
    return list(dict.fromkeys(side.label for side in (error.gold, error.predicted) if side))


def _badness(errors: Sequence[SpanError]) -> tuple[float, int]:
    surest = max((e.score for e in errors if e.score is not None), default=-math.inf)
    return surest, sum(e.gold.end - e.gold.start for e in errors if e.gold and not e.predicted)


def _card(p: Prediction, errors: list[SpanError]) -> Card:
    gold = {e: Piece(p.text[e.start : e.end], e.label, "correct") for e in p.gold}
    predicted = {
        e: Piece(p.text[e.start : e.end], e.label, "correct", f.score)
        for e, f in zip(p.predicted, p.found, strict=True)
    }
    for error in errors:
        for side, pieces in ((error.gold, gold), (error.predicted, predicted)):
            if side:
                pieces[side] = replace(pieces[side], kind=error.kind)
    return Card(p, _pieces(p, gold), _pieces(p, predicted), errors)


def _pieces(p: Prediction, marks: Mapping[Entity, Piece]) -> list[Piece]:
    """Cuts a sentence at its entities, which are disjoint."""
    pieces: list[Piece] = []
    position = 0
    for entity in sorted(marks):
        if not position <= entity.start < entity.end <= len(p.text):
            raise KonerError(f"{p.id}: the entity {entity.start}:{entity.end} overlaps another or leaves the text")
        pieces += [Piece(p.text[position : entity.start]), marks[entity]]
        position = entity.end
    return [piece for piece in (*pieces, Piece(p.text[position:])) if piece.text]


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def _figures(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    intervals = evaluation.get("intervals", {})
    return [
        {"name": name, "value": scores[key], "scores": scores if key == "f1" else {}}
        | intervals.get(f"{protocol}.{key}", {})
        for protocol, key, name in _FIGURES
        if key in (scores := evaluation.get(protocol, {}))
    ]


def _confusion(name: str, matrix: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    if matrix.shape != (len(labels), len(labels)):
        raise KonerError(f"confusions: '{name}' has {len(labels)} labels for a matrix of {matrix.shape}")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = [list(zip(*row, strict=True)) for row in zip(matrix.tolist(), shares.tolist(), strict=True)]
    return {"name": name, "labels": list(labels), "rows": dict(zip(labels, rows, strict=True))}


def _epoch_charts(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    best = max(history, key=lambda row: row["f1"])["epoch"] if history else None
    charts = []
    for title, columns, factor in (
        ("loss", ("train_loss", "eval_loss"), 1),
        ("development part, by token, %", ("precision", "recall", "f1", "accuracy"), 100),
    ):
        lines = {
            column.replace("_", " "): [
                (row["epoch"], factor * row[column], 3.0) for row in history if math.isfinite(row.get(column, math.nan))
            ]
            for column in columns
        }
        if any(lines.values()):
            charts.append(_chart(title, "epoch", lines, marked=best))
    return charts


def _reliability_chart(reliability: Mapping[str, Sequence[Mapping[str, Any]]]) -> Chart | None:
    most = max((row["entities"] for rows in reliability.values() for row in rows), default=0)
    lines = {
        name: [(row["score"], row["right"], 2 + 6 * math.sqrt(row["entities"] / most)) for row in rows]
        for name, rows in reliability.items()
    }
    return _chart("share of entities right", "mean score of the entities", lines, unit=True) if most else None


def _chart(
    title: str, x_label: str, lines: Mapping[str, _Points], marked: float | None = None, unit: bool = False
) -> Chart:
    """Lays lines out; with `unit` both axes run from 0 to 1."""
    xs, ys = ([point[i] for line in lines.values() for point in line] for i in (0, 1))
    x_ticks = _UNIT if unit else [t for t in _ticks(xs, integer=True) if min(xs) <= t <= max(xs)]
    y_ticks = _UNIT if unit else _ticks(ys)
    first, last = (0.0, 1.0) if unit else (min(xs) - 0.3, max(xs) + 0.3)

    def x(value: float) -> float:
        return round(_LEFT + (value - first) / (last - first) * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_BOTTOM - _TOP), 1)

    return Chart(
        title,
        x_label,
        [(x(t), f"{t:g}") for t in x_ticks],
        [(y(t), f"{t:g}") for t in y_ticks],
        {name: [(x(a), y(b), round(radius, 1)) for a, b, radius in line] for name, line in lines.items()},
        None if marked is None else (x(marked), f"best epoch: {marked:g}"),
        unit,
    )


def _ticks(values: Sequence[float], integer: bool = False) -> list[float]:
    """Round figures that span the values, at least two."""
    low, high = min(values), max(values)
    margin = 0.5 if low == high else 0.0
    locator = MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=integer, min_n_ticks=2)
    return [round(float(t), 10) for t in locator.tick_values(low - margin, high + margin)]


def _font(html: str) -> str | None:
    """A WOFF font with the glyphs of a page's characters beyond ASCII, as base64; None without Hangul or font package.

    Subsets of NanumGothic (SIL Open Font License 1.1) must not bear its name, which the page's style does not give it.
    """
    # Found, not imported: the package would change matplotlib's settings.
    package = importlib.util.find_spec(_FONT_PACKAGE)
    path = Path(package.origin).parent / _FONT_FILE if package and package.origin else None
    if path is None or not path.is_file() or not _EAST_ASIAN.search(html):
        return None
    options = subset.Options(flavor="woff", hinting=False, name_IDs=[0, 7, 13, 14])
    options.drop_tables += ["TSI0", "TSI1", "TSI2", "TSI3", "TSI5"]
    file = io.BytesIO()
    with subset.load_font(path, options) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes={ord(character) for character in html if not character.isascii()})
        subsetter.subset(font)
        subset.save_font(font, file, options)
    return base64.b64encode(file.getvalue()).decode()
