"""The bootstrap by sentence: the uncertainty of a figure, or of the difference between two models.

Every figure is a function of counts summed over sentences: arrays (…, groups, 3), in which the groups are types or tags
and the last axis is correct, predicted, gold. Resampling sentences is then a product of two matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koner.errors import KonerError

Counts = NDArray[np.int64]
Figures = NDArray[np.float64]
Statistic = Callable[[Counts], Figures]
"""A function from summed counts (…, groups, 3) to figures (…)."""

_CELLS = 2_000_000  # weights in memory at a time: resamples × sentences
# The tolerance between two sums of the same terms in another order, so that ties count as ties.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The figures of two models on the same sentences, their `difference` b - a with its interval, and its p-value."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float


def group_f1(sums: Counts) -> Figures:
    """Return the F1 of each group: (…, groups, 3) to (…, groups); 0 if the denominator is 0."""
    correct, predicted, gold = np.moveaxis(np.asarray(sums), -1, 0)
    # F1 is 2 * correct / (predicted + gold); if both are 0, correct is 0, too.
    return np.asarray(2 * correct / np.maximum(predicted + gold, 1), dtype=np.float64)


def micro_f1(sums: Counts) -> Figures:
    """Return the F1 of the counts of all groups together: (…, groups, 3) to (…); 0 if there are none."""
    return group_f1(np.asarray(sums).sum(axis=-2, keepdims=True))[..., 0]


def macro_f1(sums: Counts, present_only: bool = False) -> Figures:
    """Return the mean F1 of the groups: (…, groups, 3) to (…); 0 if there are no counts.

    A group without predicted and gold entities scores 0. With `present_only` it is left out of the mean, as in seqeval.
    """
    scores = group_f1(sums)
    if not present_only:
        return np.asarray(scores.mean(axis=-1))
    present = (np.asarray(sums)[..., 1:] > 0).any(axis=-1)
    return np.asarray(scores.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def resample_sums(counts: Counts, resamples: int, seed: int) -> Counts:
    """Sum counts over resamples of the sentences, drawn with replacement.

    The same seed draws the same sentences for any counts of the same number of sentences.

    Args:
        counts: Counts (sentences, groups, 3).
        resamples: The number of resamples, each of as many sentences as there are.
        seed: The seed of the draw.

    Returns:
        The exact sums, (resamples, groups, 3).

    Raises:
        KonerError: If `resamples` is below 1 or `seed` below 0.
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
    # Integers are exact in float64 up to 2**53, and BLAS does not multiply integers.
    flat = counts.reshape(sentences, -1).astype(np.float64)
    block = max(1, _CELLS // sentences)
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        drawn = generator.integers(sentences, size=(rows, sentences))
        drawn += np.arange(rows)[:, None] * sentences
        # The number of times that each sentence was drawn: multinomial weights, one row per resample.
        weights = np.bincount(drawn.ravel(), minlength=rows * sentences).reshape(rows, sentences)
        sums[first : first + rows] = (weights.astype(np.float64) @ flat).reshape(rows, *shape)
    return sums


def interval(
    counts: Counts, statistic: Statistic, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return a figure with its percentile bootstrap interval, resampled by sentence.

    With fewer than two sentences all resamples are equal, and the interval has no width.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
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
    """Compare two models on the same sentences: the difference b - a, its percentile interval and `p_value`.

    Each resample has the same sentences for both models: the paired bootstrap (Koehn 2004, "Statistical Significance
    Tests for Machine Translation Evaluation"). With fewer than two sentences nothing varies, and p is 1.

    Raises:
        KonerError: If the numbers of sentences differ.
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
    """Compare several figures as `paired` does, from one set of resamples."""
    sentences, groups = counts_a.shape[:2]
    if len(counts_b) != sentences:
        raise KonerError(f"counts of {sentences} and of {len(counts_b)} sentences can't be paired")
    sums = resample_sums(np.concatenate([counts_a, counts_b], axis=1), resamples, seed)
    differences_by_name = {}
    for name, statistic in statistics.items():
        a, b = float(statistic(counts_a.sum(axis=0))), float(statistic(counts_b.sum(axis=0)))
        differences = statistic(sums[:, groups:]) - statistic(sums[:, :groups])
        p = p_value(differences, b - a) if sentences > 1 else 1.0
        differences_by_name[name] = PairedDifference(a, b, b - a, *_percentiles(differences, level), p)
    return differences_by_name


def p_value(differences: Figures, observed: float) -> float:
    """Return the two-sided p-value of an observed difference from the differences of the resamples.

    The resamples scatter around the observed difference as they would scatter around 0 if there were no difference. So
    p is the share of resamples whose distance from the observed difference is at least the observed difference itself.
    The observed one counts as a resample: (1 + k) / (1 + n) for k of n. Source: Berg-Kirkpatrick et al. 2012, "An
    Empirical Investigation of Statistical Significance in NLP" (one-sided there); the added 1 follows Davison and
    Hinkley 1997, "Bootstrap Methods and their Application", section 4.2.
    """
    is_as_far = np.abs(np.asarray(differences) - observed) >= abs(observed) - _ROUNDING
    return float((1 + is_as_far.sum()) / (1 + is_as_far.size))


def _percentiles(figures: Figures, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise KonerError(f"level: {level} is not allowed; it must be between 0 and 1")
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
