"""The comparison of texts with a reference: a test and an effect size for each of four distributions.

With many texts, any difference is significant. So a difference counts as drift only if the test says that it is not
chance, and the population stability index (PSI) says that it is not small. By the usual rule, a PSI below 0.1 is no
change, one below 0.25 a moderate change, and any other a large one (Siddiqi 2006, Credit Risk Scorecards).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from scipy import stats

from koner.drift.statistics import TextStatistics
from koner.errors import KonerError

Size = Literal["none", "moderate", "large"]

MODERATE, LARGE = 0.1, 0.25
MAX_P_VALUE = 0.01
MIN_TEXTS = 30
_BINS = 10
# Added to each bin, so that a bin that is empty on one side has a finite share.
_PSEUDO_COUNT = 0.5


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of a distribution.

    Attributes:
        name: What is distributed.
        reference: Its typical value in the reference: a median or a share; None for the types.
        texts: The same in the texts.
        test: The name of the test.
        p_value: The p-value of the test.
        psi: The population stability index.
    """

    name: str
    reference: float | None
    texts: float | None
    test: str
    p_value: float
    psi: float

    @property
    def size(self) -> Size:
        """The size of the drift; `none` also for one that may be chance."""
        if self.p_value >= MAX_P_VALUE or self.psi < MODERATE:
            return "none"
        return "moderate" if self.psi < LARGE else "large"


def compare(reference: TextStatistics, texts: TextStatistics) -> list[Difference]:
    """Compare the scores, the density and the types of entities, and the unknown tokens of texts with a reference.

    Scores and densities are compared by the two-sample Kolmogorov-Smirnov test and the PSI over the deciles of the
    reference; types and the texts with unknown tokens by the chi-squared test and the PSI over the types, or over
    texts with and without such a token.

    Raises:
        KonerError: If there are too few texts on a side.
    """
    for name, statistics in (("REFERENCE", reference), ("TEXTS", texts)):
        if statistics.texts < MIN_TEXTS:
            raise KonerError(f"{name} has {statistics.texts} texts; a comparison needs at least {MIN_TEXTS}")
    types = sorted({*reference.types, *texts.types})
    type_counts = [[statistics.types[label] for label in types] for statistics in (reference, texts)]
    unknown_counts = [[s.with_unknown, s.texts - s.with_unknown] for s in (reference, texts)]
    share, texts_share = (statistics.with_unknown / statistics.texts for statistics in (reference, texts))
    return [
        _compare_values("score of a text", reference.scores, texts.scores),
        _compare_values("entities per 1,000 characters", reference.densities, texts.densities),
        Difference("types of entities", None, None, *_compare_counts(type_counts)),
        Difference("texts with an unknown token", share, texts_share, *_compare_counts(unknown_counts)),
    ]


def _compare_values(name: str, reference: Sequence[float], texts: Sequence[float]) -> Difference:
    a, b = np.asarray(reference), np.asarray(texts)
    p_value = float(stats.ks_2samp(a, b).pvalue)
    # Values that many texts share, such as no entities, can be several deciles.
    edges = np.unique(np.quantile(a, np.linspace(0, 1, _BINS + 1)[1:-1]))
    counts = [np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1) for values in (a, b)]
    return Difference(name, median(reference), median(texts), "Kolmogorov-Smirnov", p_value, _stability_index(*counts))


def _compare_counts(counts: Sequence[Sequence[int]]) -> tuple[str, float, float]:
    """Return the name of the test, its p-value and the PSI for counts of the same categories on both sides."""
    table = np.asarray(counts)
    table = table[:, table.any(axis=0)]
    if table.shape[1] < 2 or not table.any(axis=1).all():
        # A single category, or no entities at all on a side: the density says the latter.
        return "chi-squared", 1.0, 0.0
    return "chi-squared", float(stats.chi2_contingency(table).pvalue), _stability_index(*table)


def _stability_index(reference: np.ndarray, texts: np.ndarray) -> float:
    a, b = ((counts + _PSEUDO_COUNT) / (counts + _PSEUDO_COUNT).sum() for counts in (reference, texts))
    return float(((b - a) * np.log(b / a)).sum())


def conclude(differences: Sequence[Difference]) -> str:
    """Return a sentence that says whether the texts differ, in what, and what to do."""
    found = [difference for difference in differences if difference.size != "none"]
    if not found:
        return "No drift: the texts are like the reference in scores, entities and unknown tokens."
    parts = [f"{d.name} ({_direction(d)}{d.size} drift)" for d in sorted(found, key=lambda d: -d.psi)]
    return (
        f"The texts differ from the reference in: {', '.join(parts)}. The figures of the evaluation may not hold for "
        "them; annotate some of them (`koner select`), evaluate, and train again."
    )


def _direction(difference: Difference) -> str:
    if difference.reference is None or difference.texts is None or difference.reference == difference.texts:
        return ""
    return "lower, " if difference.texts < difference.reference else "higher, "
