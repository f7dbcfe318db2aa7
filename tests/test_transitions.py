from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.boundaries import LABELS, may_follow
from koner.labels import TAGS
from koner.transitions import LegalSequences

FEW = ("B-PS", "I-PS", "I-PS/cut1", "B-LC/two", "I-LC", "O")


def legal(path, labels):
    names = [labels[i] for i in path]
    return all(map(may_follow, ["O", *names], names))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_it_is_the_best_of_all_legal_sequences(seed, length):
    values = np.random.default_rng(seed).normal(size=(length, len(FEW))).astype(np.float32)
    paths = [p for p in product(range(len(FEW)), repeat=length) if legal(p, FEW)]
    expected = max(paths, key=lambda p: sum(float(values[i, label]) for i, label in enumerate(p)))
    assert LegalSequences(FEW).best(values).tolist() == list(expected)


def test_a_stray_i_gives_way():
    values = np.full((3, len(TAGS)), -9.0, np.float32)
    for row, (first, second) in zip(values, [("O", "B-PS"), ("I-PS", "O"), ("I-LC", "I-PS")], strict=True):
        row[TAGS.index(first)], row[TAGS.index(second)] = 2.0, 1.5
    sequences = LegalSequences(TAGS)
    assert [TAGS[i] for i in sequences.best(values)] == ["B-PS", "I-PS", "I-PS"]
    # By themselves the likeliest labels are O I-PS I-LC.
    assert [TAGS[i] for i in values.argmax(axis=1)] == ["O", "I-PS", "I-LC"]


def test_a_text_without_tokens_has_no_labels():
    assert LegalSequences(LABELS).best(np.empty((0, len(LABELS)), np.float32)).tolist() == []
