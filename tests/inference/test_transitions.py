from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.inference.transitions import ConstrainedDecoder
from koner.labels.bio import OUTSIDE, first_illegal_tag, is_valid_transition
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet

FEW = ("B-PS", "I-PS", "B-LC", "I-LC", "O")


def is_valid(path, labels):
    names = [labels[i] for i in path]
    return all(map(is_valid_transition, ["O", *names], names))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_best_path_has_the_highest_sum_of_all_valid_sequences(seed, length):
    values = np.random.default_rng(seed).normal(size=(length, len(FEW))).astype(np.float32)
    paths = [p for p in product(range(len(FEW)), repeat=length) if is_valid(p, FEW)]
    expected = max(paths, key=lambda p: sum(float(values[i, label]) for i, label in enumerate(p)))
    assert ConstrainedDecoder(FEW).decode(values).tolist() == list(expected)


def test_an_i_tag_that_continues_no_entity_is_replaced():
    values = np.full((3, len(KLUE.tags)), -9.0, np.float32)
    for row, (first, second) in zip(values, [("O", "B-PS"), ("I-PS", "O"), ("I-LC", "I-PS")], strict=True):
        row[KLUE.tags.index(first)], row[KLUE.tags.index(second)] = 2.0, 1.5
    decoder = ConstrainedDecoder(KLUE.tags)
    assert [KLUE.tags[i] for i in decoder.decode(values)] == ["B-PS", "I-PS", "I-PS"]
    # Without the constraint, the most likely labels are O I-PS I-LC.
    assert [KLUE.tags[i] for i in values.argmax(axis=1)] == ["O", "I-PS", "I-LC"]


def test_a_text_without_tokens_has_no_labels():
    assert ConstrainedDecoder(KLUE.tags).decode(np.empty((0, len(KLUE.tags)), np.float32)).tolist() == []


def dense_path(labels, logits):
    """Viterbi over all pairs of labels, as in the textbook."""
    is_valid = np.array([[is_valid_transition(a, b) for b in labels] for a in labels])
    may_start = np.array([is_valid_transition(OUTSIDE, label) for label in labels])
    scores = np.where(may_start, logits[0].astype(np.float64), -np.inf)
    backpointers = np.empty(logits.shape, np.int64)
    for i in range(1, len(logits)):
        candidates = scores[:, None] + np.where(is_valid, 0.0, -np.inf)
        backpointers[i] = candidates.argmax(axis=0)
        scores = candidates.max(axis=0) + logits[i]
    path = [int(scores.argmax())]
    for i in range(len(logits) - 1, 0, -1):
        path.append(int(backpointers[i, path[-1]]))
    return path[::-1]


NAMES = st.lists(st.sampled_from(["PS", "PS-A", "A", "A-", "5GPLN", "인명", "B", "I"]), min_size=1, unique=True)


@settings(max_examples=200)
@given(st.data(), NAMES, st.integers(0, 2**32 - 1), st.booleans())
def test_all_sequences_are_decoded_as_by_viterbi_over_all_pairs(data, names, seed, has_ties):
    # Models may number their labels in any order, and lack an I.
    labels = data.draw(st.permutations(LabelSet(tuple(names)).tags))
    labels = [label for label in labels if label != f"I-{names[0]}" or data.draw(st.booleans())]
    random = np.random.default_rng(seed)
    lengths = data.draw(st.lists(st.integers(0, 7), max_size=6))
    sequences = [random.standard_normal((length, len(labels))).astype(np.float32) for length in lengths]
    if has_ties:
        sequences = [np.round(logits) for logits in sequences]
    decoded = ConstrainedDecoder(labels).decode_all(sequences)
    for logits, path in zip(sequences, decoded, strict=True):
        greedy = logits.argmax(axis=1).tolist()
        is_legal = first_illegal_tag([labels[i] for i in greedy]) is None
        assert path.tolist() == (greedy if is_legal else dense_path(labels, logits))


def test_142_types_are_decoded_as_by_viterbi_over_all_pairs():
    labels = LabelSet(tuple(f"T{i}" for i in range(142))).tags
    random = np.random.default_rng(1)
    sequences = [random.standard_normal((length, len(labels))).astype(np.float32) for length in (9, 40, 40, 1, 70)]
    decoded = ConstrainedDecoder(labels).decode_all(sequences)
    assert [path.tolist() for path in decoded] == [dense_path(labels, logits) for logits in sequences]
