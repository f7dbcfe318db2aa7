"""The bootstrap by sentence: how far a figure, or the difference between two models, would move on another test set.

Every figure here is a function of counts summed over sentences: arrays (…, groups, 3), the groups being types or tags
and the last axis correct, predicted, gold. Resampling sentences is then a product of two matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koner.errors import KonerError
from koner.labels import TYPES, Entity, entities_of
from koner.predictions import Prediction

Counts = NDArray[np.int64]
Figures = NDArray[np.float64]
Statistic = Callable[[Counts], Figures]
"""Takes summed counts (…, groups, 3) to figures (…)."""

_CELLS = 2_000_000  # weights held at once: resamples by sentences
# What two sums of the same terms in another order may differ by, so that a tie counts as one.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The figures of two models on the same sentences, `difference` = b - a with its interval, and its p-value."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float


def group_f1(sums: Counts) -> Figures:
    """F1 of each group: (…, groups, 3) to (…, groups); 0 where there is nothing to divide by."""
    correct, predicted, gold = np.moveaxis(np.asarray(sums), -1, 0)
    # F1 is 2 * correct / (predicted + gold), and correct is 0 where both others are.
    return np.asarray(2 * correct / np.maximum(predicted + gold, 1), dtype=np.float64)


def micro_f1(sums: Counts) -> Figures:
    """F1 of the groups' counts together: (…, groups, 3) to (…); 0 where there is nothing."""
    return group_f1(np.asarray(sums).sum(axis=-2, keepdims=True))[..., 0]


def macro_f1(sums: Counts, present_only: bool = False) -> Figures:
    """The mean of the groups' F1: (…, groups, 3) to (…); 0 where there is nothing.

    A group with neither predicted nor gold scores 0, or with `present_only` is left out of the mean, as seqeval does.
    """
    scores = group_f1(sums)
    if not present_only:
        return np.asarray(scores.mean(axis=-1))
    present = (np.asarray(sums)[..., 1:] > 0).any(axis=-1)
    return np.asarray(scores.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def resample_sums(counts: Counts, resamples: int, seed: int) -> Counts:
    """Sums counts (sentences, groups, 3) over `resamples` draws of as many sentences, with replacement.

    Gives (resamples, groups, 3), exact. The same seed draws the same sentences for any counts of as many sentences.
    Raises `KonerError` where `resamples` is below 1 or `seed` below 0.
    """
    if resamples < 1:
        raise KonerError(f"resamples: {resamples} is not allowed; it must be at least 1")
    if seed < 0:
        raise KonerError(f"seed: {seed} is not allowed; it must be at least 0")
    sentences, *shape = counts.shape
    sums = np.zeros((resamples, *shape), dtype=np.int64)
    if sentences == 0:
        return sums
    generator = np.random.default_rng(seed)
    # Whole numbers in float64 are exact up to 2**53, and BLAS multiplies no integers.
    flat = counts.reshape(sentences, -1).astype(np.float64)
    block = max(1, _CELLS // sentences)
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        drawn = generator.integers(sentences, size=(rows, sentences))
        drawn += np.arange(rows)[:, None] * sentences
        # How often each sentence was drawn: multinomial weights, one row to a resample.
        weights = np.bincount(drawn.ravel(), minlength=rows * sentences).reshape(rows, sentences)
        sums[first : first + rows] = (weights.astype(np.float64) @ flat).reshape(rows, *shape)
    return sums


def interval(
    counts: Counts, statistic: Statistic, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """A figure with its percentile bootstrap interval, sentences resampled.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. Of fewer than two sentences
    every resample is the same, and the interval has no width.
    """
    value = float(statistic(counts.sum(axis=0)))
    return Interval(value, *_percentiles(statistic(resample_sums(counts, resamples, seed)), level))


def paired(
    counts_a: Counts,
    counts_b: Counts,
    statistic: Statistic,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Compares two models on the same sentences: the difference b - a, its percentile interval and `p_value`.

    Each resample takes the same sentences for both: the paired bootstrap (Koehn 2004, "Statistical Significance Tests
    for Machine Translation Evaluation"). Of fewer than two sentences p is 1, since nothing varies that could be tested.
    Raises `KonerError` where the counts are of different numbers of sentences.
    """
    return paired_all(counts_a, counts_b, {"": statistic}, resamples, level, seed)[""]


def paired_all(
    counts_a: Counts,
    counts_b: Counts,
    statistics: Mapping[str, Statistic],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """`paired` for several figures of the same counts, from one set of resamples."""
    sentences, groups = counts_a.shape[:2]
    if len(counts_b) != sentences:
        raise KonerError(f"counts of {sentences} and of {len(counts_b)} sentences can't be paired")
    sums = resample_sums(np.concatenate([counts_a, counts_b], axis=1), resamples, seed)
    found = {}
    for name, statistic in statistics.items():
        a, b = float(statistic(counts_a.sum(axis=0))), float(statistic(counts_b.sum(axis=0)))
        differences = statistic(sums[:, groups:]) - statistic(sums[:, :groups])
        p = p_value(differences, b - a) if sentences > 1 else 1.0
        found[name] = PairedDifference(a, b, b - a, *_percentiles(differences, level), p)
    return found


def p_value(differences: Figures, observed: float) -> float:
    """The two-sided p-value of an observed difference, from those of the paired bootstrap's resamples.

    Resamples scatter about the observed difference as, were there none, they would about 0. So p is the share of
    them that lie at least as far from the observed difference as that lies from 0, itself counted in: (1 + k) / (1 + n)
    for k of n.
    Source: Berg-Kirkpatrick et al. 2012, "An Empirical Investigation of Statistical Significance in NLP", there
    one-sided; the 1 is of Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 4.2.
    """
    as_far = np.abs(np.asarray(differences) - observed) >= abs(observed) - _ROUNDING
    return float((1 + as_far.sum()) / (1 + as_far.size))


def span_counts(predictions: Sequence[Prediction]) -> Counts:
    """Counts entities by exact start, end and type against the annotation: (sentences, 6, 3), types as in `TYPES`."""
    return _entity_counts((p.gold, p.predicted) for p in predictions)


def wordpiece_counts(predictions: Sequence[Prediction]) -> Counts:
    """Counts entities that token tags spell, as seqeval reads them by default: (sentences, 6, 3), as in `TYPES`."""
    return _entity_counts((entities_of(p.gold_tags), entities_of(p.predicted_tags)) for p in predictions)


def _entity_counts(pairs: Iterable[tuple[Iterable[Entity], Iterable[Entity]]]) -> Counts:
    rows = []
    for pair in pairs:
        gold, predicted = map(set, pair)
        row = np.zeros((len(TYPES), 3), dtype=np.int64)
        for column, entities in enumerate((gold & predicted, predicted, gold)):
            for entity in entities:
                row[TYPES.index(entity.label), column] += 1
        rows.append(row)
    return np.array(rows, dtype=np.int64).reshape(-1, len(TYPES), 3)


def _percentiles(figures: Figures, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise KonerError(f"level: {level} is not allowed; it must lie between 0 and 1")
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
