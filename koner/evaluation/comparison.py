"""Comparison of two models on the same test part: differences of figures, and the sentences that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import numpy as np

from koner.corpus.inline import write_inline
from koner.errors import KonerError
from koner.evaluation import protocols
from koner.evaluation.bootstrap import Counts, Figures, PairedDifference, Statistic, micro_f1, paired_all
from koner.inference.predictions import Prediction
from koner.labels.bio import Entity
from koner.labels.label_set import LabelSet

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Change:
    """A sentence in which A and B predict different entities; offsets are code points of `text`."""

    id: str
    text: str
    gold: tuple[Entity, ...]
    a: tuple[Entity, ...]
    b: tuple[Entity, ...]


@dataclass(frozen=True)
class Comparison:
    """The difference between two models, A and B.

    Attributes:
        names: The names of A and B.
        sentences: The number of test sentences.
        entities: The number of gold entities by type.
        resamples: The number of resamples of the bootstrap.
        seed: The seed of the bootstrap.
        figures: The difference of each compared figure; None if `notes` says why the models are not comparable by it.
        notes: Explanations by figure.
        by_type: The difference of span F1 by type.
        fixed: Sentences that only B predicts exactly as annotated.
        broken: Sentences that only A predicts exactly as annotated.
        otherwise: Other sentences that changed.
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


@dataclass(frozen=True, slots=True)
class _Measurement:
    """A statistic, and the counts of A and of B that it is computed from."""

    statistic: Statistic
    a: Counts
    b: Counts


def compare(
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    labels: LabelSet,
    resamples: int = 1000,
    seed: int = 0,
    names: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """Compare the predictions of two models for the same sentences; differences are B - A.

    All figures use the same resamples. `labels` holds the types of both models.

    Raises:
        KonerError: If the sentences or their annotation differ, or if there are none.
    """
    _check_same_test(a, b, names)
    measurements, notes = _measure_figures(a, b, labels)
    spans = measurements[f"{protocols.SPAN.name}.f1"]
    # No figure and no type has a space in its name.
    by_type = {
        f"type {type_}": _Measurement(micro_f1, spans.a[:, i : i + 1], spans.b[:, i : i + 1])
        for type_, i in labels.type_to_id.items()
    }
    differences = _paired_differences({**measurements, **by_type}, resamples, seed)
    compared = [p.path(figure) for p in protocols.PROTOCOLS for figure in p.figures if figure.compared]
    return Comparison(
        names,
        len(a),
        dict(zip(labels.types, spans.a.sum(axis=0)[:, 2].tolist(), strict=True)),
        resamples,
        seed,
        {path: differences.get(path) for path in compared},
        notes,
        {type_: differences[f"type {type_}"] for type_ in labels.types},
        **_changes(a, b),
    )


def _measure_figures(
    a: Sequence[Prediction], b: Sequence[Prediction], labels: LabelSet
) -> tuple[dict[str, _Measurement], dict[str, str]]:
    """Return the compared figures by path, and a note for each that the two models are not comparable by."""
    measurements: dict[str, _Measurement] = {}
    notes: dict[str, str] = {}
    other_tokens = sum((p.offsets, p.gold_tags) != (q.offsets, q.gold_tags) for p, q in zip(a, b, strict=True))
    for protocol in protocols.PROTOCOLS:
        figures = [figure for figure in protocol.figures if figure.compared]
        if protocol.depends_on_tokens and other_tokens:
            note = f"not comparable, as {other_tokens} of {len(a)} sentences are cut into other tokens"
            notes |= {protocol.path(figure): note for figure in figures}
            continue
        counts_a, counts_b = protocol.counts(a, labels), protocol.counts(b, labels)
        for figure in figures:
            if figure.statistic and figure.counts:
                measurement = _Measurement(figure.statistic, counts_a[figure.counts], counts_b[figure.counts])
                measurements[protocol.path(figure)] = measurement
    return measurements, notes


def _check_same_test(a: Sequence[Prediction], b: Sequence[Prediction], names: tuple[str, str]) -> None:
    """Raise an error that names the first difference between two test parts."""
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


def _paired_differences(
    measurements: Mapping[str, _Measurement], resamples: int, seed: int
) -> dict[str, PairedDifference]:
    """Compute all differences from one set of resamples, with the counts of all figures side by side."""
    statistics: dict[str, Statistic] = {}
    start = 0
    for name, measurement in measurements.items():
        groups = slice(start, start + measurement.a.shape[1])
        statistics[name] = partial(_apply_to_groups, measurement.statistic, groups)
        start = groups.stop
    a = np.concatenate([measurement.a for measurement in measurements.values()], axis=1)
    b = np.concatenate([measurement.b for measurement in measurements.values()], axis=1)
    return paired_all(a, b, statistics, resamples, LEVEL, seed)


def _apply_to_groups(statistic: Statistic, groups: slice, sums: Counts) -> Figures:
    return statistic(sums[..., groups, :])


def _changes(a: Sequence[Prediction], b: Sequence[Prediction]) -> dict[str, tuple[Change, ...]]:
    """Return the sentences that are fixed, broken and changed otherwise, in order."""
    changes: dict[str, list[Change]] = {"fixed": [], "broken": [], "otherwise": []}
    for p, q in zip(a, b, strict=True):
        gold, entities_a, entities_b = set(p.gold), set(p.predicted), set(q.predicted)
        if entities_a != entities_b:
            kind = "fixed" if entities_b == gold else "broken" if entities_a == gold else "otherwise"
            changes[kind].append(Change(p.id, p.text, p.gold, p.predicted, q.predicted))
    return {kind: tuple(changed) for kind, changed in changes.items()}
