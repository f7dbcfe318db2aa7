"""Two models on the same test part: what changed, in figures with their uncertainty and sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import RevError

from koner.bootstrap import (
    Counts,
    Figures,
    PairedDifference,
    Statistic,
    micro_f1,
    paired_all,
    span_counts,
    wordpiece_counts,
)
from koner.corpus import write_inline
from koner.errors import KonerError
from koner.klue_protocol import char_f1, entity_f1, klue_counts
from koner.labels import TYPES, Entity
from koner.predictions import Prediction, read_predictions

PREDICTIONS = Path("data/predictions.parquet")
WORKSPACE = "workspace"
LEVEL = 0.95
WORDPIECE, KLUE_ENTITY, KLUE_CHAR, SPAN = "wordpiece.f1", "klue.entity_f1", "klue.char_f1", "span.f1"


@dataclass(frozen=True, slots=True)
class Change:
    """A sentence in which A and B found different entities; offsets are code points of `text`."""

    id: str
    text: str
    gold: tuple[Entity, ...]
    a: tuple[Entity, ...]
    b: tuple[Entity, ...]


@dataclass(frozen=True)
class Comparison:
    """How B differs from A.

    `figures` holds F1 by protocol (None where `notes` says why the two can't be compared), `by_type` that of `SPAN`
    by type. `entities` counts the annotated ones by type. A sentence is `fixed` where B alone finds exactly the
    annotated entities, `broken` where A alone does, and changed `otherwise` where neither does.
    """

    names: tuple[str, str]
    sentences: int
    entities: dict[str, int]
    resamples: int
    seed: int
    figures: dict[str, PairedDifference | None]
    notes: dict[str, str]
    by_type: dict[str, PairedDifference]
    fixed: tuple[Change, ...]
    broken: tuple[Change, ...]
    otherwise: tuple[Change, ...]


def load_predictions_of(revision: str, repo: str | Path = ".") -> list[Prediction]:
    """Reads the predictions of a Git revision or a DVC experiment of `repo`; of `workspace`, those on disk.

    What the cache lacks is read from the default remote. Raises `KonerError` where there is no such revision, where
    it has no predictions, and where neither cache nor remote has their data.
    """
    if revision == WORKSPACE:
        return read_predictions(Path(repo) / PREDICTIONS)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / PREDICTIONS.name
        _copy_out(revision, repo, copy)
        try:
            return read_predictions(copy)
        except KonerError:
            raise KonerError(f"{revision}: {PREDICTIONS} holds no predictions of the evaluate stage") from None


def _copy_out(revision: str, repo: str | Path, to: Path) -> None:
    """Copies the predictions of a revision out of its project's cache, or its remote."""
    if not revision:
        # DVC reads an empty name as the workspace.
        raise KonerError("the revision's name is empty; name a Git revision or a DVC experiment")
    path = PREDICTIONS.as_posix()
    remedy = "run `dvc pull`, or check the revision out and run `dvc repro`"
    found: dict[str, Any] = {}
    with closing(DVCFileSystem(repo, rev=revision)) as files:
        try:
            found = files.info(path)
            files.get_file(path, str(to))
        except FileNotFoundError:
            # Of a stage that never ran the output is declared, but has no content.
            if "md5" not in found:
                raise KonerError(f"{revision} has no {path}; check it out and run `dvc repro`") from None
            raise KonerError(f"{revision}: neither the cache nor a remote that answers has {path}; {remedy}") from None
        except RevError as error:
            raise KonerError(f"{error}; `git log` and `dvc exp show` list what can be named") from None
        except DvcException as error:
            raise KonerError(f"{revision} can't be read: {error}") from None
        except Exception as error:  # every kind of remote has errors of its own
            why = " ".join(str(error).split())
            raise KonerError(f"{revision}: the remote of {path} can't be read ({why}); {remedy}") from None


def compare(
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    resamples: int = 1000,
    seed: int = 0,
    names: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """Compares two models' predictions for the same sentences; differences are B - A, on the same resamples throughout.

    Raises `KonerError` where the sentences or their annotation differ, or there are none.
    """
    _check_same_test(a, b, names)
    klue_a, klue_b, span_a, span_b = klue_counts(a), klue_counts(b), span_counts(a), span_counts(b)
    measured: dict[str, tuple[Statistic, Counts, Counts]] = {
        WORDPIECE: (micro_f1, wordpiece_counts(a), wordpiece_counts(b)),
        KLUE_ENTITY: (entity_f1, klue_a.entities, klue_b.entities),
        KLUE_CHAR: (char_f1, klue_a.characters, klue_b.characters),
        SPAN: (micro_f1, span_a, span_b),
    }
    notes = {}
    other_tokens = sum((p.offsets, p.gold_tags) != (q.offsets, q.gold_tags) for p, q in zip(a, b, strict=True))
    if other_tokens:
        del measured[WORDPIECE]
        notes[WORDPIECE] = f"not comparable, as {other_tokens} of {len(a)} sentences are cut into other tokens"
    by_type = {type_: (micro_f1, span_a[:, i : i + 1], span_b[:, i : i + 1]) for i, type_ in enumerate(TYPES)}
    found = _paired({**measured, **by_type}, resamples, seed)
    return Comparison(
        names,
        len(a),
        dict(zip(TYPES, span_a.sum(axis=0)[:, 2].tolist(), strict=True)),
        resamples,
        seed,
        {name: found.get(name) for name in (WORDPIECE, KLUE_ENTITY, KLUE_CHAR, SPAN)},
        notes,
        {type_: found[type_] for type_ in TYPES},
        **_changes(a, b),
    )


def _check_same_test(a: Sequence[Prediction], b: Sequence[Prediction], names: tuple[str, str]) -> None:
    """Raises `KonerError` that names the first difference between two test parts."""
    if not a and not b:
        raise KonerError("there is nothing to compare: no sentence was tested")
    for number, (p, q) in enumerate(zip_longest(a, b), 1):
        if p is None or q is None or p.id != q.id:
            sides = ["missing" if r is None else f"'{r.id}'" for r in (p, q)]
            which = f"{number}"
        elif (p.text, p.gold) != (q.text, q.gold):
            sides = [f"'{write_inline(r.text, r.gold)}'" for r in (p, q)]
            which = f"{number} ('{p.id}')"
        else:
            continue
        raise KonerError(
            f"{names[0]} ({len(a)} sentences) and {names[1]} ({len(b)} sentences) were not tested on the same data "
            f"and can't be compared; sentence {which} is {sides[0]} in {names[0]} and {sides[1]} in {names[1]}"
        )


def _paired(
    measured: Mapping[str, tuple[Statistic, Counts, Counts]], resamples: int, seed: int
) -> dict[str, PairedDifference]:
    """Lays all counts side by side, so that each resample is drawn and summed once for every figure."""
    statistics: dict[str, Statistic] = {}
    start = 0
    for name, (statistic, counts, _) in measured.items():
        groups = slice(start, start + counts.shape[1])
        statistics[name] = partial(_of_groups, statistic, groups)
        start = groups.stop
    a, b = (np.concatenate([counts[side] for counts in measured.values()], axis=1) for side in (1, 2))
    return paired_all(a, b, statistics, resamples, LEVEL, seed)


def _of_groups(statistic: Statistic, groups: slice, sums: Counts) -> Figures:
    return statistic(sums[..., groups, :])


def _changes(a: Sequence[Prediction], b: Sequence[Prediction]) -> dict[str, tuple[Change, ...]]:
    """The sentences fixed, broken and changed otherwise, in order."""
    found: dict[str, list[Change]] = {"fixed": [], "broken": [], "otherwise": []}
    for p, q in zip(a, b, strict=True):
        gold, of_a, of_b = set(p.gold), set(p.predicted), set(q.predicted)
        if of_a != of_b:
            kind = "fixed" if of_b == gold else "broken" if of_a == gold else "otherwise"
            found[kind].append(Change(p.id, p.text, p.gold, p.predicted, q.predicted))
    return {kind: tuple(changes) for kind, changes in found.items()}


def render(comparison: Comparison, show: int) -> str:
    """Writes a comparison as plain text: tables of figures, then at most `show` fixed and as many broken sentences."""
    c = comparison
    lines = [
        f"A: {c.names[0]}",
        f"B: {c.names[1]}",
        f"{c.sentences} sentences, {sum(c.entities.values())} entities",
        "",
        *_table("F1", c.figures),
        *(f"{name}: {note}" for name, note in c.notes.items()),
        "",
        *_table(SPAN, {f"{t} ({c.entities[t]} in gold)": figure for t, figure in c.by_type.items()}),
        "",
        f"Interval and p: paired bootstrap of {c.resamples} resamples by sentence, seed {c.seed}; "
        "p is two-sided and not corrected for their number.",
        "",
        f"fixed, B alone is right: {len(c.fixed)}",
        *_sentences(c.fixed, show),
        f"broken, A alone is right: {len(c.broken)}",
        *_sentences(c.broken, show),
        f"changed otherwise, neither is right: {len(c.otherwise)}",
    ]
    return "\n".join(lines) + "\n"


def _table(title: str, rows: Mapping[str, PairedDifference | None]) -> list[str]:
    lines = [f"{title:<20}{'A':>8}{'B':>8}{'B - A':>10}  {f'{LEVEL:.0%} interval':<20}{'p':>8}"]
    for label, figure in rows.items():
        if figure is None:
            lines.append(f"{label:<20}{'-':>8}{'-':>8}{'-':>10}  {'-':<20}{'-':>8}")
            continue
        low_high = f"{_signed(figure.low)} to {_signed(figure.high)}"
        lines.append(
            f"{label:<20}{figure.a:>8.4f}{figure.b:>8.4f}{_signed(figure.difference):>10}  "
            f"{low_high:<20}{figure.p_value:>8.4f}"
        )
    return lines


def _signed(value: float) -> str:
    # Adding 0 turns -0 to 0.
    return f"{round(value, 4) + 0.0:+.4f}"


def _sentences(changes: Sequence[Change], show: int) -> list[str]:
    lines = []
    for change in changes[:show]:
        lines.append(f"  {change.id}")
        lines += [f"    {side:<6}{written}" for side, written in _inline(change).items()]
    if len(changes) > show:
        lines.append(f"  … {len(changes) - show} not shown")
    return lines


def _inline(change: Change) -> dict[str, str]:
    sides = {"gold": change.gold, "A": change.a, "B": change.b}
    return {side: write_inline(change.text, entities) for side, entities in sides.items()}


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Lays a comparison out for `json.dumps`, sentences as inline annotation, all of them."""
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
            name: [{"id": change.id, **_inline(change)} for change in changes]
            for name, changes in (("fixed", c.fixed), ("broken", c.broken), ("otherwise", c.otherwise))
        },
    }
