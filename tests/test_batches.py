import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from koner.batches import TokenBatches


def drawn(batches, seed=0):
    torch.manual_seed(seed)
    return list(batches)


def test_a_batch_holds_many_short_windows_or_few_long_ones():
    # 24 tokens in 6 windows: a batch of 3 windows holds 12.
    batches = TokenBatches([2, 6, 2, 6, 2, 6], 3)
    found = sorted(sorted(batch) for batch in drawn(batches))
    assert len(batches) == len(found) == 3
    assert found[0] == [0, 2, 4]
    assert sorted(map(len, found)) == [1, 2, 3]


def test_a_window_longer_than_a_batch_stands_alone():
    assert sorted(drawn(TokenBatches([1, 1, 1, 100], 1))) == [[0, 1, 2], [3]]


def test_of_no_window_there_is_no_batch():
    assert drawn(TokenBatches([], 4)) == []


def test_the_order_is_drawn_from_the_generator():
    batches = TokenBatches([5] * 40, 4)
    first = drawn(batches)
    assert drawn(batches) == first
    assert drawn(batches, 1) != first
    assert {frozenset(batch) for batch in drawn(batches, 1)} != set(map(frozenset, first))


@given(st.lists(st.integers(1, 128), min_size=1, max_size=60), st.integers(1, 16))
def test_every_window_is_drawn_once_and_no_batch_is_larger_than_it_may_be(lengths, batch_size):
    batches = TokenBatches(lengths, batch_size)
    found = drawn(batches)
    assert len(found) == len(batches)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    most = batch_size * sum(lengths) / len(lengths)
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= most


@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_of_one_length_are_batches_of_the_size_asked_for(batch_size):
    assert {len(batch) for batch in drawn(TokenBatches([7] * 12, batch_size))} == {batch_size}
