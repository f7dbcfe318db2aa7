"""A comparison of two models as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from koner.console import escape_controls
from koner.corpus.inline import write_inline
from koner.evaluation.bootstrap import PairedDifference
from koner.evaluation.comparison import LEVEL, Change, Comparison
from koner.evaluation.protocols import SPAN

_BY_TYPE_TITLE = f"{SPAN.name}.f1"


def render_text(comparison: Comparison, show: int) -> str:
    """Return a comparison as plain text: tables of figures, then at most `show` fixed and `show` broken sentences."""
    c = comparison
    lines = [
        f"A: {c.names[0]}",
        f"B: {c.names[1]}",
        f"{c.sentences} sentences, {sum(c.entities.values())} entities",
        "",
        *_table("F1", c.figures),
        *(f"{name}: {note}" for name, note in c.notes.items()),
        "",
        *_table(_BY_TYPE_TITLE, {f"{t} ({c.entities[t]} in gold)": figure for t, figure in c.by_type.items()}),
        "",
        f"Interval and p: paired bootstrap of {c.resamples} resamples by sentence, seed {c.seed}; "
        "p is two-sided and not corrected for multiple testing.",
        "",
        f"fixed, only B is right: {len(c.fixed)}",
        *_sentences(c.fixed, show),
        f"broken, only A is right: {len(c.broken)}",
        *_sentences(c.broken, show),
        f"changed otherwise, neither is right: {len(c.otherwise)}",
    ]
    return "\n".join(lines) + "\n"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as values for `json.dumps`, with all changed sentences as inline annotation."""
    c = comparison
    figures = {name: asdict(figure) if figure else {"note": c.notes[name]} for name, figure in c.figures.items()}
    by_type = {type_: {**asdict(figure), "gold": c.entities[type_]} for type_, figure in c.by_type.items()}
    return {
        "a": c.names[0],
        "b": c.names[1],
        "sentences": c.sentences,
        "entities": sum(c.entities.values()),
        "resamples": c.resamples,
        "seed": c.seed,
        "level": LEVEL,
        "figures": figures,
        "by_type": by_type,
        **{
            name: [{"id": change.id, **_inline_sides(change)} for change in changes]
            for name, changes in (("fixed", c.fixed), ("broken", c.broken), ("otherwise", c.otherwise))
        },
    }


def _table(title: str, rows: Mapping[str, PairedDifference | None]) -> list[str]:
    lines = [f"{title:<20}{'A':>8}{'B':>8}{'B - A':>10}  {f'{LEVEL:.0%} interval':<20}{'p':>8}"]
    for label, figure in rows.items():
        if figure is None:
            lines.append(f"{label:<20}{'-':>8}{'-':>8}{'-':>10}  {'-':<20}{'-':>8}")
            continue
        bounds = f"{_signed(figure.low)} to {_signed(figure.high)}"
        lines.append(
            f"{label:<20}{figure.a:>8.4f}{figure.b:>8.4f}{_signed(figure.difference):>10}  "
            f"{bounds:<20}{figure.p_value:>8.4f}"
        )
    return lines


def _signed(value: float) -> str:
    # Adding 0 turns -0 into 0.
    return f"{round(value, 4) + 0.0:+.4f}"


def _sentences(changes: Sequence[Change], show: int) -> list[str]:
    lines = []
    for change in changes[:show]:
        lines.append(f"  {escape_controls(change.id)}")
        lines += [f"    {side:<6}{escape_controls(annotated)}" for side, annotated in _inline_sides(change).items()]
    if len(changes) > show:
        lines.append(f"  … {len(changes) - show} not shown")
    return lines


def _inline_sides(change: Change) -> dict[str, str]:
    sides = {"gold": change.gold, "A": change.a, "B": change.b}
    return {side: write_inline(change.text, entities) for side, entities in sides.items()}
