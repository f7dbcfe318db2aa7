from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.inference.transitions import BioLabels, ConstrainedDecoder
from koner.labels.bio import is_valid_transition
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from tests.inference import plain_decoding

FEW = ("B-PS", "I-PS", "B-LC", "I-LC", "O")


def is_valid(path, labels):
    names = [labels[i] for i in path]
    return all(map(is_valid_transition, ["O", *names], names))


def decode_all(labels, sequences):
    """Decode sequences together."""
    starts = np.cumsum([0, *map(len, sequences)])
    together = np.concatenate([np.empty((0, len(labels)), np.float32), *sequences])
    path = ConstrainedDecoder(BioLabels(labels)).decode(together, starts)
    return [path[a:b].tolist() for a, b in pairwise(starts)]


def decode_alone(labels, logits):
    (path,) = decode_all(labels, [logits])
    return path


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_best_path_has_the_highest_sum_of_all_valid_sequences(seed, length):
    values = np.random.default_rng(seed).normal(size=(length, len(FEW))).astype(np.float32)
    paths = [p for p in product(range(len(FEW)), repeat=length) if is_valid(p, FEW)]
    expected = max(paths, key=lambda p: sum(float(values[i, label]) for i, label in enumerate(p)))
    assert decode_alone(FEW, values) == list(expected)


def test_an_i_tag_that_continues_no_entity_is_replaced():
    values = np.full((3, len(KLUE.tags)), -9.0, np.float32)
    for row, (first, second) in zip(values, [("O", "B-PS"), ("I-PS", "O"), ("I-LC", "I-PS")], strict=True):
        row[KLUE.tags.index(first)], row[KLUE.tags.index(second)] = 2.0, 1.5
    assert [KLUE.tags[i] for i in decode_alone(KLUE.tags, values)] == ["B-PS", "I-PS", "I-PS"]
    # Without the constraint, the most likely labels are O I-PS I-LC.
    assert [KLUE.tags[i] for i in values.argmax(axis=1)] == ["O", "I-PS", "I-LC"]


def test_sequences_without_tokens_have_no_labels():
    empty = np.empty((0, len(KLUE.tags)), np.float32)
    assert decode_all(KLUE.tags, [empty, empty]) == [[], []]
    one = np.eye(len(KLUE.tags), dtype=np.float32)[[KLUE.tag_to_id["I-PS"]]]
    assert decode_all(KLUE.tags, [empty, one, empty, one, empty]) == [[], [0], [], [0], []]


# Values of logits: from a few, so that paths are equally good; and with a label that is far better than the others.
KINDS = ("normal", "ties", "certain")


def random_logits(random, lengths, labels, kind):
    """Return logits of sequences: with ties if `kind` says so, or with some labels that are far better than others."""
    for length in lengths:
        logits = random.standard_normal((length, labels))
        if kind == "certain":
            logits[np.arange(length), random.integers(0, labels, length)] += random.integers(0, 12, length)
        yield (np.round(logits) if kind == "ties" else logits).astype(np.float32)


NAMES = st.lists(st.sampled_from(["PS", "PS-A", "A", "A-", "5GPLN", "인명", "B", "I"]), min_size=1, unique=True)


@settings(max_examples=400, deadline=None)
@given(st.data(), NAMES, st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_all_sequences_are_decoded_as_by_viterbi_over_all_pairs(data, names, seed, kind):
    # Models may number their labels in any order, and lack an I.
    labels = data.draw(st.permutations(LabelSet(tuple(names)).tags))
    labels = [label for label in labels if label != f"I-{names[0]}" or data.draw(st.booleans())]
    lengths = data.draw(st.lists(st.integers(0, 12), max_size=6))
    sequences = list(random_logits(np.random.default_rng(seed), lengths, len(labels), kind))
    assert decode_all(labels, sequences) == [plain_decoding.best_path(labels, logits) for logits in sequences]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("types", [1, 6, 142])
@pytest.mark.parametrize("count", [1, 16, 64])
def test_any_number_of_sequences_and_types_is_decoded_as_by_viterbi_over_all_pairs(count, types, kind):
    labels = LabelSet(tuple(f"T{i}" for i in range(types))).tags
    random = np.random.default_rng(count)
    sequences = list(random_logits(random, random.integers(0, 40, count), len(labels), kind))
    assert decode_all(labels, sequences) == [plain_decoding.best_path(labels, logits) for logits in sequences]
