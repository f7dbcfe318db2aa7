"""The split of the corpus into train, development and test, and the balance of its entity types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from scipy.sparse import coo_array, csr_array
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from koner.corpus.parts import DEVELOPMENT, TEST, TRAIN, VALIDATION
from koner.errors import KonerError
from koner.labels.label_set import LabelSet

Protocol = Literal["holdout", "official"]
_MOST_TYPES_SHOWN = 20
# Of the sentences that development may be drawn from, if the others must stay in train.
_LARGEST_SHARE = 0.9
MIN_SENTENCES = 20  # fewer cannot be stratified


@dataclass(frozen=True)
class PartSummary:
    """The properties of a part's sentences that decide the split; memory grows with sentences and entities.

    Attributes:
        text_hashes: A hash of each text, (sentences,).
        type_counts: The number of entities of each type, sparse (sentences, types).
        labels: The types.
    """

    text_hashes: np.ndarray
    type_counts: csr_array
    labels: LabelSet

    def count_types(self, mask: np.ndarray) -> dict[str, int]:
        """Return the number of entities of each type in the sentences that a mask (sentences,) selects."""
        counts = self.type_counts[mask].sum(axis=0, dtype=np.int64)
        return dict(zip(self.labels.types, counts.tolist(), strict=True))


def summarize(batches: Iterable[pa.RecordBatch], labels: LabelSet) -> PartSummary:
    """Summarize the sentences of a part, which have types of a label set; needs the columns `text` and `entities`."""
    # Among half a million texts, the probability that two share a 64-bit hash is about one in a hundred million.
    text_hashes, rows, types = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    sentences = 0
    for batch in batches:
        text_hashes.append(np.fromiter(map(hash, batch.column("text").to_pylist()), np.int64, batch.num_rows))
        entities = batch.column("entities")
        rows.append(np.repeat(np.arange(batch.num_rows, dtype=np.int32), np.asarray(entities.value_lengths())))
        rows[-1] += sentences
        sentences += batch.num_rows
        types.append(pc.index_in(entities.flatten().field("label"), value_set=pa.array(labels.types)).to_numpy())
    places = np.concatenate(rows), np.concatenate(types)
    # Entities of one sentence and type add up.
    counts = coo_array((np.ones(len(places[0]), np.int32), places), (sentences, len(labels.types))).tocsr()
    return PartSummary(np.concatenate(text_hashes), counts, labels)


@dataclass(frozen=True)
class Selection:
    """The sentences of a part: those of a published part that a mask (sentences,) selects."""

    published_part: str
    mask: np.ndarray

    def filter(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the selected rows of the published part."""
        position = 0
        for batch in batches:
            mask = self.mask[position : position + batch.num_rows]
            yield batch if mask.all() else batch.filter(pa.array(mask))
            position += batch.num_rows


def split(
    train: PartSummary,
    validation: PartSummary | None,
    protocol: Protocol,
    development_share: float,
    seed: int,
    test: PartSummary | None = None,
) -> tuple[dict[str, Selection], dict[str, int]]:
    """Split the published parts into train, development and test.

    A published test part is the test part; development is then the published validation part, if there is one, or is
    drawn from train. Without a published test part, the protocol decides. A sentence whose text also occurs in an
    evaluation part is removed from train (and from a development part that is drawn from it).

    Args:
        train: The published training part.
        validation: The published validation part, if there is one.
        protocol: Without a published test part, `official`: the published validation part is both development and test,
            as in the published figures. `holdout`: development is drawn from train, stratified over all types at once
            (iterative stratification, Sechidis et al. 2011), and the published validation part is the test part.
        development_share: The share of the training sentences that a drawn development part takes.
        seed: The seed of the stratified draw.
        test: The published test part, if there is one.

    Returns:
        The selection of each part, and the number of sentences removed because of the test and the development part.

    Raises:
        KonerError: If a part would be empty or the training part is too small.
    """
    published = {part: summary for part, summary in ((VALIDATION, validation), (TEST, test)) if summary is not None}
    if not published:
        raise KonerError("the corpus has no evaluation part")
    wholes = {part: Selection(part, np.ones(len(summary.text_hashes), bool)) for part, summary in published.items()}
    test_part = wholes[TEST if TEST in wholes else VALIDATION]
    kept = ~np.isin(train.text_hashes, published[test_part.published_part].text_hashes)
    removed = {"of_test": int((~kept).sum()), "of_development": 0}
    development = wholes.get(VALIDATION) if TEST in wholes or protocol == "official" else None
    if development is None:
        drawn = _draw_development(train, kept, development_share, seed)
        left = kept & ~drawn & ~np.isin(train.text_hashes, train.text_hashes[drawn])
        removed["of_development"] = int((kept & ~drawn).sum() - left.sum())
        development = Selection(TRAIN, drawn)
    else:
        left = kept & ~np.isin(train.text_hashes, published[development.published_part].text_hashes)
        removed["of_development"] = int(kept.sum() - left.sum())
    parts = {TRAIN: Selection(TRAIN, left), DEVELOPMENT: development, TEST: test_part}
    for part, selection in parts.items():
        if not selection.mask.any():
            raise KonerError(f"the part '{part}' is empty after the split")
    return parts, removed


def _draw_development(train: PartSummary, kept: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the mask of the training sentences that become development."""
    _check_enough(train.type_counts[kept])
    drawn = np.zeros(len(kept), bool)
    drawn[np.flatnonzero(kept)[draw_stratified(train.type_counts[kept], share, seed)]] = True
    return drawn


def find_unique(type_counts: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return which types occur in one sentence only, (types,), and which sentences have such a type, (sentences,)."""
    present = type_counts > 0
    is_unique = present.sum(axis=0) == 1
    return is_unique, present[:, is_unique].sum(axis=1) > 0


def count_unique(train: PartSummary, parts: Mapping[str, Selection]) -> dict[str, int]:
    """Return the number of types that occur in one sentence only, which is in train, and of these sentences.

    Args:
        train: The published training part.
        parts: The parts that `split` returned.
    """
    used = np.any([part.mask for part in parts.values() if part.published_part == TRAIN], axis=0)
    is_unique, has_unique = find_unique(train.type_counts[used])
    return {"types": int(is_unique.sum()), "sentences": int(has_unique.sum())}


def _check_enough(type_counts: csr_array) -> None:
    total, candidates = type_counts.shape[0], count_drawable(type_counts)
    if candidates < MIN_SENTENCES:
        fewer = "" if candidates == total else f", {candidates} of them without a type that only they have"
        raise KonerError(
            f"protocol: 'holdout' needs at least {MIN_SENTENCES} training sentences; there are {total}{fewer}"
        )


def count_drawable(type_counts: csr_array) -> int:
    """Return the number of sentences that `draw_stratified` may draw, which must be at least `MIN_SENTENCES`."""
    return int((~find_unique(type_counts)[1]).sum())


def draw_stratified(type_counts: csr_array, share: float, seed: int) -> np.ndarray:
    """Return the indices of about `share` of the sentences, in which each type occurs at the same rate.

    A sentence with a type that no other sentence has is not drawn: a model could not learn the type.
    """
    is_unique, has_unique = find_unique(type_counts)
    candidates = np.flatnonzero(~has_unique)
    share = min(share * len(has_unique) / len(candidates), _LARGEST_SHARE)
    present = (type_counts[candidates][:, ~is_unique] > 0).toarray()
    # One more column keeps the rate of sentences without entities.
    present = np.column_stack([present, ~present.any(axis=1)])
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    drawn: np.ndarray
    _, drawn = next(splitter.split(np.zeros(len(present)), present.astype(np.int8)))
    drawn = candidates[drawn]
    return drawn


def balance(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Compare the distribution of entity types between parts.

    Args:
        counts: The number of entities of each type, by part; the types have the same order in all parts.

    Returns:
        `share`: the share of each type in each part. `divergence`: the Jensen-Shannon divergence of each pair of parts
        in bits (0: equal, 1: disjoint). `homogeneity`: a chi-squared test of homogeneity over the parts, without types
        that never occur; None if a part has no entity. On large parts a tiny p-value alone is no reason for concern;
        the divergence measures the size of the difference.
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
    table = np.array([list(counts[part].values()) for part in parts])
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


def _divergence(a: Mapping[str, float], b: Mapping[str, float], both_have_entities: int) -> float:
    if not both_have_entities:
        return 1.0
    distance = jensenshannon(list(a.values()), list(b.values()), base=2)
    return round(float(distance) ** 2 if np.isfinite(distance) else 0.0, 6)


def check_balance(balance: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]], threshold: float) -> None:
    """Check that every part has entities, and that no two parts diverge by more than `threshold` bits.

    What chance explains is allowed in addition: with 150 types, small parts of the same text diverge by more.

    Args:
        balance: The result of `balance`.
        counts: The counts that it was computed from.
        threshold: The largest Jensen-Shannon divergence, in bits.

    Raises:
        KonerError: If a part has no entity, or two parts diverge by more, with a table of the counts.
    """
    if empty := [part for part, types in counts.items() if not any(types.values())]:
        raise KonerError(f"no sentence of the part '{empty[0]}' has an entity; all parts need annotated entities")
    chance = _chance_divergences(counts)
    worst = max(chance, key=lambda pair: balance["divergence"][pair] - chance[pair])
    divergence = balance["divergence"][worst]
    if divergence <= threshold + chance[worst]:
        return
    lines = _table(counts, balance["share"], worst.split("_"))
    raise KonerError(
        f"the parts {worst.replace('_', ' and ')} differ in their entity types by {divergence:.4f} bits, more than "
        f"max_divergence, {threshold}, and the {chance[worst]:.4f} bits that chance explains:\n" + "\n".join(lines)
    )


def _chance_divergences(counts: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Return the expected divergence, in bits, of each pair of parts if their entities had the same distribution.

    To the second order, the Jensen-Shannon divergence of two samples of n and m entities of k types is a chi-squared
    variable of k - 1 degrees of freedom times (1/n + 1/m) / (8 ln 2).
    """
    parts = list(counts)
    chance = {}
    for i, a in enumerate(parts):
        for b in parts[i + 1 :]:
            types = sum(bool(counts[a][type_] or counts[b][type_]) for type_ in counts[a])
            scale = 1 / sum(counts[a].values()) + 1 / sum(counts[b].values())
            chance[f"{a}_{b}"] = (types - 1) * scale / (8 * math.log(2))
    return chance


def _table(
    counts: Mapping[str, Mapping[str, int]], shares: Mapping[str, Mapping[str, float]], worst: Sequence[str]
) -> list[str]:
    """Return the lines of a table of counts and shares by type and part, of the types that differ most."""
    a, b = worst
    types = sorted(counts[a], key=lambda type_: -abs(shares[a][type_] - shares[b][type_]))
    shown = set(types[:_MOST_TYPES_SHOWN])
    lines = ["  " + " ".join(f"{name:>12}" for name in ("type", *counts))]
    for type_ in (type_ for type_ in counts[a] if type_ in shown):
        cells = (f"{counts[part][type_]:>5} {shares[part][type_]:>6.1%}" for part in counts)
        lines.append("  " + " ".join([f"{type_:>12}", *cells]))
    if len(types) > len(shown):
        lines.append(f"  … and {len(types) - len(shown)} more types, which differ less")
    return lines


def share_table(shares: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return the share of each type in each part, in percent, as rows for a bar chart."""
    return [
        {"part_type": f"{type_} {part}", "percent": round(100 * share[type_], 2)}
        for type_ in next(iter(shares.values()))
        for part, share in shares.items()
    ]
