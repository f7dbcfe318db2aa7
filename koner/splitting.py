"""Which sentences train, which choose the epoch, which give the final figure; and whether their tags balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from koner.alignment import Retagged
from koner.errors import KonerError
from koner.labels import TYPES

Protocol = Literal["holdout", "official"]
TRAIN, DEVELOPMENT, TEST = "train", "development", "test"
PARTS = (TRAIN, DEVELOPMENT, TEST)
_SMALLEST = 20  # sentences that stratification over six types needs to mean anything


def split(
    train: Sequence[Retagged],
    validation: Sequence[Retagged],
    protocol: Protocol,
    development_share: float,
    seed: int,
) -> tuple[dict[str, list[Retagged]], dict[str, int]]:
    """Gives the parts train, development and test, and how many sentences were removed from the training side.

    `official`: the published validation is both development and test, as in the published figures. `holdout`:
    development is carved out of train, stratified over the six types at once (iterative stratification, Sechidis et
    al. 2011), and the published validation is the test. A sentence whose text stands in an evaluation part too is
    removed from train (and, under holdout, from development). Raises `KonerError` for too small a train part.
    """
    held = {r.sentence.text for r in validation}
    kept = [r for r in train if r.sentence.text not in held]
    removed = {"of_test": len(train) - len(kept), "of_development": 0}
    if protocol == "official":
        parts = {TRAIN: kept, DEVELOPMENT: list(validation), TEST: list(validation)}
    else:
        if len(kept) < _SMALLEST:
            raise KonerError(
                f"protocol: 'holdout' needs at least {_SMALLEST} training sentences; there are {len(kept)}"
            )
        carved = _stratified(kept, development_share, seed)
        development = [r for r, taken in zip(kept, carved, strict=True) if taken]
        held = {r.sentence.text for r in development}
        rest = [r for r, taken in zip(kept, carved, strict=True) if not taken]
        left = [r for r in rest if r.sentence.text not in held]
        removed["of_development"] = len(rest) - len(left)
        parts = {TRAIN: left, DEVELOPMENT: development, TEST: list(validation)}
    for part, sentences in parts.items():
        if not sentences:
            raise KonerError(f"the part '{part}' is empty after the split")
    return parts, removed


def _stratified(sentences: Sequence[Retagged], share: float, seed: int) -> list[bool]:
    """Chooses about `share` of the sentences so that every type's presence keeps its rate."""
    present = np.array(
        [[any(e.label == type_ for e in r.sentence.entities) for type_ in TYPES] for r in sentences], dtype=int
    )
    # A column for sentences without entities keeps their rate too.
    present = np.column_stack([present, present.sum(axis=1) == 0])
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    _, taken = next(splitter.split(np.zeros(len(sentences)), present))
    chosen = set(taken.tolist())
    return [i in chosen for i in range(len(sentences))]


def type_counts(sentences: Sequence[Retagged]) -> dict[str, int]:
    """Counts the entities of each type."""
    counts = Counter(e.label for r in sentences for e in r.sentence.entities)
    return {type_: counts[type_] for type_ in TYPES}


def balance(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Compares how the types are spread in each part.

    Gives each type's share per part, the Jensen-Shannon divergence of each pair of parts in bits (0 alike, 1
    disjoint), and a chi-squared test of homogeneity over the parts (types that never occur left out; None where a
    part has no entity). A tiny p-value on large parts is no alarm by itself: the divergence says how large it is.
    """
    parts = list(counts)
    totals = {part: sum(counts[part].values()) for part in parts}
    shares = {
        part: {type_: (n / totals[part] if totals[part] else 0.0) for type_, n in counts[part].items()}
        for part in parts
    }
    divergences = {
        f"{a}_{b}": _divergence(shares[a], shares[b], totals[a] and totals[b])
        for i, a in enumerate(parts)
        for b in parts[i + 1 :]
    }
    table = np.array([[counts[part][type_] for type_ in TYPES] for part in parts])
    table = table[:, table.sum(axis=0) > 0]
    homogeneity = None
    if table.size and (table.sum(axis=1) > 0).all() and table.shape[1] > 1:
        test = chi2_contingency(table)
        homogeneity = {
            "chi2": round(float(test.statistic), 4),
            "degrees_of_freedom": int(test.dof),
            "p_value": round(float(test.pvalue), 6),
        }
    return {"share": shares, "divergence": divergences, "homogeneity": homogeneity}


def _divergence(a: Mapping[str, float], b: Mapping[str, float], both: int) -> float:
    if not both:
        return 1.0
    distance = jensenshannon([a[t] for t in TYPES], [b[t] for t in TYPES], base=2)
    return round(float(distance) ** 2 if np.isfinite(distance) else 0.0, 6)


def assert_balanced(found: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]], threshold: float) -> None:
    """Raises `KonerError` with the table of counts where two parts diverge by more than `threshold` bits."""
    worst = max(found["divergence"], key=found["divergence"].__getitem__)
    divergence = found["divergence"][worst]
    if divergence <= threshold:
        return
    header = "  " + " ".join(f"{name:>12}" for name in ("part", *TYPES))
    rows = [
        "  " + " ".join([f"{part:>12}", *(f"{counts[part][t]:>5} {found['share'][part][t]:>6.1%}" for t in TYPES)])
        for part in counts
    ]
    raise KonerError(
        f"the parts {worst.replace('_', ' and ')} differ in their entity types by {divergence:.4f} bits, more than "
        f"max_divergence, {threshold}:\n" + "\n".join([header, *rows])
    )


def share_table(shares: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Lays each type's share in each part out as rows for a bar chart, percent."""
    return [
        {"part_type": f"{type_} {part}", "percent": round(100 * share[type_], 2)}
        for type_ in TYPES
        for part, share in shares.items()
    ]
