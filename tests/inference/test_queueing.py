from itertools import chain, islice

from hypothesis import example, given
from hypothesis import strategies as st

from koner.inference.queueing import Request, RequestQueue


def make_request(*lengths, is_gone=lambda: False):
    return Request([range(length) for length in lengths], is_gone)


def take_batches(queue):
    """Take one batch after another out of a queue, and let its requests continue after it."""
    while (batch := queue.take_batch()[0]) or len(queue):
        yield batch
        for request in dict.fromkeys(queued.request for queued in batch):
            queue.continue_later(request)


def lengths_of(batch):
    return [len(queued.window) for queued in batch]


window_lengths = st.lists(st.integers(1, 600), min_size=1, max_size=20)
requests_lengths = st.lists(window_lengths, min_size=1, max_size=20)
tokens = st.integers(1, 5000)
padding = st.sampled_from([0, 0.1, 0.5, 0.9])


@given(requests_lengths, tokens, tokens, padding)
@example([[100], [10], [10], [10]], 5000, 5000, 0.5)
def test_batches_keep_their_limits_and_have_each_window_once(requests_lengths, batch_tokens, turn_tokens, padding):
    queue = RequestQueue(batch_tokens, turn_tokens, padding)
    requests = [make_request(*lengths) for lengths in requests_lengths]
    for request in requests:
        queue.add(request)
    assert queue.tokens == sum(map(sum, requests_lengths))
    seen = []
    for batch in take_batches(queue):
        seen += [(queued.request, queued.position) for queued in batch]
        lengths = lengths_of(batch)
        padded = len(lengths) * max(lengths)
        assert len(lengths) == 1 or padded <= batch_tokens
        assert padded - sum(lengths) <= padding * padded
        for request in requests:
            turn = [len(queued.window) for queued in batch if queued.request is request]
            assert len(turn) <= 1 or sum(turn) <= turn_tokens
    assert len(seen) == len(set(seen)) == sum(map(len, requests_lengths))
    assert queue.tokens == 0


@given(requests_lengths, st.integers(0, 10), window_lengths, tokens, tokens, padding)
def test_a_new_request_waits_for_one_turn_of_each_other_request(
    requests_lengths, batches_before, lengths, batch_tokens, turn_tokens, padding
):
    queue = RequestQueue(batch_tokens, turn_tokens, padding)
    for others in requests_lengths:
        queue.add(make_request(*others))
    batches = take_batches(queue)
    for _ in islice(batches, batches_before):
        pass
    new = make_request(*lengths)
    waiting = len(queue)
    queue.add(new)
    # The requests of the batch that runs continue after the new one.
    batches = chain(batches, take_batches(queue))
    assert any(queued.request is new for batch in islice(batches, waiting + 1) for queued in batch)


@given(st.integers(1, 600), st.integers(1, 60), tokens)
def test_windows_of_one_length_fill_the_batch_in_order(length, count, batch_tokens):
    queue = RequestQueue(batch_tokens, batch_tokens, 0)
    requests = [make_request(length) for _ in range(count)]
    for request in requests:
        queue.add(request)
    batch, _ = queue.take_batch()
    assert [queued.request for queued in batch] == requests[: max(1, batch_tokens // length)]


def test_the_nearest_lengths_join_the_first_request():
    queue = RequestQueue(60, 60, 0.3)
    for length in (10, 4, 14, 9, 20, 11):
        queue.add(make_request(length))
    assert [lengths_of(batch) for batch in take_batches(queue)] == [[10, 11, 9, 14], [4], [20]]


def test_large_requests_do_not_join_a_batch_beyond_the_size_of_a_turn():
    queue = RequestQueue(100, 20, 0.1)
    large, other = make_request(*[10] * 6), make_request(*[10] * 6)
    queue.add(large)
    queue.add(other)
    batches = take_batches(queue)
    # Both have their first turn.
    assert lengths_of(next(batches)) == [10] * 4
    for _ in range(3):
        queue.add(make_request(10))
    sizes = [len({queued.request for queued in batch}) for batch in batches]
    # New requests join the turn of a large one; the large ones have their turns one after the other.
    assert sizes == [3, 1, 1, 1, 1]


def test_requests_whose_callers_have_gone_are_removed():
    queue = RequestQueue(100, 20, 0.1)
    gone = [make_request(10, 10, 10, is_gone=lambda: True) for _ in range(3)]
    alive = make_request(10)
    for request in (gone[0], alive, *gone[1:]):
        queue.add(request)
    batch, removed = queue.take_batch()
    assert [queued.request for queued in batch] == [alive]
    assert removed == gone
    assert (len(queue), queue.tokens) == (0, 0)
    assert queue.take_batch() == ([], [])


class CountingWindow:
    """A window that counts how often its length is asked for."""

    calls = 0

    def __len__(self):
        type(self).calls += 1
        return 3


def test_the_effort_for_a_batch_does_not_depend_on_the_size_of_the_queue():
    efforts = []
    for windows in (1_000, 100_000):
        queue = RequestQueue(512, 64, 0.1)
        for _ in range(4):
            queue.add(Request([CountingWindow()] * windows, lambda: False))
        CountingWindow.calls = 0
        for batch in islice(take_batches(queue), 10):
            assert len(batch) >= 20
        efforts.append(CountingWindow.calls)
    assert efforts[0] == efforts[1] < 10 * 200 * 10
