"""Which sentences train, which choose the epoch, which give the final figure; and whether their tags balance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from koner.errors import KonerError
from koner.labels import TYPES

Protocol = Literal["holdout", "official"]
TRAIN, DEVELOPMENT, TEST = "train", "development", "test"
VALIDATION = "validation"
PARTS = (TRAIN, DEVELOPMENT, TEST)
_SMALLEST = 20  # sentences that stratification over six types needs to mean anything


@dataclass(frozen=True)
class Outline:
    """What of a part's sentences decides where they go: a hash of each text (n,), mentions of each type (n, types)."""

    texts: np.ndarray
    mentions: np.ndarray

    def type_counts(self, taken: np.ndarray) -> dict[str, int]:
        """Counts the entities of each type in the sentences that the mask `taken` (n,) is true for."""
        return dict(zip(TYPES, self.mentions[taken].sum(axis=0, dtype=np.int64).tolist(), strict=True))


def outline(batches: Iterable[pa.RecordBatch]) -> Outline:
    """Outlines a part of the columns `text` and `entities`, 32 bytes a sentence."""
    # Of half a million texts two share one of the 2^64 hashes in one of a hundred million cases.
    texts, mentions = [np.empty(0, np.int64)], [np.empty((0, len(TYPES)), np.int32)]
    for batch in batches:
        texts.append(np.fromiter(map(hash, batch.column("text").to_pylist()), np.int64, batch.num_rows))
        entities = batch.column("entities")
        rows = np.repeat(np.arange(batch.num_rows), np.asarray(entities.value_lengths()))
        labels = pc.index_in(entities.flatten().field("label"), value_set=pa.array(TYPES)).to_numpy()
        counts = np.bincount(rows * len(TYPES) + labels, minlength=batch.num_rows * len(TYPES))
        mentions.append(counts.reshape(-1, len(TYPES)).astype(np.int32))
    return Outline(np.concatenate(texts), np.concatenate(mentions))


@dataclass(frozen=True)
class Chosen:
    """The sentences of a part: those of a published part, `train` or `validation`, that the mask (n,) is true for."""

    published: str
    taken: np.ndarray

    def rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The chosen ones of the published part's rows."""
        position = 0
        for batch in batches:
            taken = self.taken[position : position + batch.num_rows]
            yield batch if taken.all() else batch.filter(pa.array(taken))
            position += batch.num_rows


def split(
    train: Outline, validation: Outline, protocol: Protocol, development_share: float, seed: int
) -> tuple[dict[str, Chosen], dict[str, int]]:
    """Gives the parts train, development and test, and how many sentences were removed from the training side.

    `official`: the published validation is both development and test, as in the published figures. `holdout`:
    development is carved out of train, stratified over the six types at once (iterative stratification, Sechidis et
    al. 2011), and the published validation is the test. A sentence whose text stands in an evaluation part too is
    removed from train (and, under holdout, from development). Raises `KonerError` for too small a train part.
    """
    kept = ~np.isin(train.texts, validation.texts)
    removed = {"of_test": int((~kept).sum()), "of_development": 0}
    whole = Chosen(VALIDATION, np.ones(len(validation.texts), bool))
    if protocol == "official":
        parts = {TRAIN: Chosen(TRAIN, kept), DEVELOPMENT: whole, TEST: whole}
    else:
        if kept.sum() < _SMALLEST:
            raise KonerError(
                f"protocol: 'holdout' needs at least {_SMALLEST} training sentences; there are {kept.sum()}"
            )
        development = np.zeros(len(kept), bool)
        development[np.flatnonzero(kept)[_stratified(train.mentions[kept], development_share, seed)]] = True
        rest = kept & ~development
        left = rest & ~np.isin(train.texts, train.texts[development])
        removed["of_development"] = int(rest.sum() - left.sum())
        parts = {TRAIN: Chosen(TRAIN, left), DEVELOPMENT: Chosen(TRAIN, development), TEST: whole}
    for part, chosen in parts.items():
        if not chosen.taken.any():
            raise KonerError(f"the part '{part}' is empty after the split")
    return parts, removed


def _stratified(mentions: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Chooses about `share` of the sentences, by index, so that every type's presence keeps its rate."""
    present = mentions > 0
    # A column for sentences without entities keeps their rate too.
    present = np.column_stack([present, ~present.any(axis=1)])
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    taken: np.ndarray
    _, taken = next(splitter.split(np.zeros(len(present)), present.astype(np.int8)))
    return taken


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
