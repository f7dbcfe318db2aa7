import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koner.batching import Batcher, BatcherClosed, QueueFull, fill_batch
from koner.tagger import Tagged

# Far beyond what any test takes: a fault hangs no run for good, and no result hangs on it.
PATIENCE = 60
FOREVER = 3600


class FakeTagger:
    """Cuts texts into windows of at most 8 characters; a window's rows are its characters, so a mix-up shows."""

    def __init__(self):
        self.batches, self.threads, self.faults = [], set(), {}
        self.started = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def encode(self, texts):
        return [SimpleNamespace(text=t, windows=[t[i : i + 8] for i in range(0, len(t), 8)]) for t in texts]

    def run(self, windows):
        self.batches.append(list(windows))
        self.threads.add(threading.current_thread())
        self.started.release()
        assert self.free.wait(PATIENCE)
        for window in self.faults.keys() & windows:
            raise self.faults[window]
        return [np.array([[ord(c)] for c in window], np.float32) for window in windows]

    def join(self, text, rows):
        assert [len(row) for row in rows] == [len(window) for window in text.windows]
        return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)

    def decode(self, logits):
        return Tagged((), tuple(chr(int(row[0])) for row in logits), ())


def read(tagged):
    return ["".join(t.token_tags) for t in tagged]


@pytest.fixture
def tagger():
    return FakeTagger()


@pytest.fixture
def start(tagger, callers):
    """Makes batchers; lets their callers go and closes them when the test ends, however it ends."""
    made = []

    def make(**options):
        options = {"max_queued_tokens": 1000, "batch_tokens": 64, "padding": 0.5, "wait": 0.0} | options
        made.append(Batcher(tagger, **options))
        return made[-1]

    yield make
    tagger.free.set()
    for batcher in made:
        batcher.close()


@pytest.fixture
def callers():
    with ThreadPoolExecutor(64) as pool:
        yield pool


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextmanager
def busy(tagger, batcher, callers):
    """While a batch of the text `busy` runs."""
    tagger.free.clear()
    first = callers.submit(batcher.tag, ["busy"])
    assert tagger.started.acquire(timeout=PATIENCE)
    try:
        yield first
    finally:
        tagger.free.set()


def queue(callers, batcher, *texts):
    """Has a caller of its own wait for each text, in this order."""
    answers = []
    for text in texts:
        tokens = batcher.queued_tokens + len(text)
        answers.append(callers.submit(batcher.tag, [text]))
        until(lambda tokens=tokens: batcher.queued_tokens == tokens)
    return answers


def results(answers):
    return [text for answer in answers for text in read(answer.result(PATIENCE))]


def test_arrivals_while_a_batch_runs_make_the_next_one(tagger, start, callers):
    batcher = start()
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abcd", "efg", "hijkl")
        assert tagger.batches == [["busy"]]
    assert results([first, *answers]) == ["busy", "abcd", "efg", "hijkl"]
    assert tagger.batches == [["busy"], ["abcd", "efg", "hijkl"]]
    assert batcher.queued_tokens == 0


def test_results_stand_in_the_order_of_the_texts(tagger, start):
    texts = ["a" * 20, "", "b", "c" * 8, "d" * 9, "ef"]
    assert read(start(batch_tokens=16).tag(texts)) == texts
    assert len(tagger.batches) > 1
    assert len(tagger.threads) == 1
    assert threading.current_thread() not in tagger.threads


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing_to_run_is_answered(tagger, start, texts):
    assert read(start().tag(texts)) == texts
    assert tagger.batches == []


def test_a_full_queue_refuses_at_once(tagger, start, callers):
    batcher = start(max_queued_tokens=10)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abcd", "efgh")
        with pytest.raises(QueueFull, match="3 tokens don't fit: 8 of at most 10 are waiting"):
            batcher.tag(["xyz"])
        answers += queue(callers, batcher, "ij")
        assert batcher.queued_tokens == 10
    assert results([first, *answers]) == ["busy", "abcd", "efgh", "ij"]
    assert read(batcher.tag(["xyz"])) == ["xyz"]


def test_too_many_callers_are_refused_at_once(tagger, start, callers):
    batcher = start(max_callers=3)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "a", "b")
        with pytest.raises(QueueFull, match="3 callers are waiting"):
            batcher.tag(["c"])
    assert results([first, *answers]) == ["busy", "a", "b"]
    assert read(batcher.tag(["c"])) == ["c"]


def test_texts_that_never_fit_are_taken_when_nothing_waits(tagger, start, callers):
    batcher = start(max_queued_tokens=10)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abcdefghijkl")
        for text in ("x", "abcdefghijkl"):
            with pytest.raises(QueueFull):
                batcher.tag([text])
    assert results([first, *answers]) == ["busy", "abcdefghijkl"]


def test_windows_of_like_length_go_together_and_the_oldest_is_never_left(tagger, start, callers):
    batcher = start(batch_tokens=24)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "aaaaaaaa", "b", "cccccccc", "d", "e", "ffffffff", "gggggggg")
    assert results([first, *answers]) == ["busy", "aaaaaaaa", "b", "cccccccc", "d", "e", "ffffffff", "gggggggg"]
    assert tagger.batches[1:] == [["aaaaaaaa", "cccccccc", "ffffffff"], ["b", "d", "e"], ["gggggggg"]]


lengths = st.lists(st.integers(1, 600), min_size=1, max_size=60)


@given(lengths, st.integers(1, 5000), st.sampled_from([0, 0.1, 0.5, 0.9]))
@example([100, 10, 10, 10], 5000, 0.5)
def test_a_batch_keeps_to_its_budget_and_its_share_of_padding(lengths, batch_tokens, padding):
    batch = fill_batch(lengths, batch_tokens, padding)
    assert batch[0] == 0
    assert len(set(batch)) == len(batch)
    padded = len(batch) * max(lengths[i] for i in batch)
    assert len(batch) == 1 or padded <= batch_tokens
    assert padded - sum(lengths[i] for i in batch) <= padding * padded


@given(st.integers(1, 600), st.integers(1, 60), st.integers(1, 5000))
def test_windows_of_one_length_fill_the_batch_in_order(length, count, batch_tokens):
    assert fill_batch([length] * count, batch_tokens, 0) == list(range(min(count, max(1, batch_tokens // length))))


@pytest.mark.parametrize("fault", [RuntimeError("out of memory"), SystemExit(1)])
def test_a_fault_reaches_the_callers_of_its_batch_only(tagger, start, callers, fault):
    batcher = start(batch_tokens=16)
    tagger.faults["cccc"] = fault
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "aaaaaaaa", "bbbbbbbb", "cccc", "dddd", "eeeeeeee")
    assert results([first, answers[0], answers[1], answers[4]]) == ["busy", "a" * 8, "b" * 8, "e" * 8]
    assert tagger.batches[1:] == [["a" * 8, "b" * 8], ["cccc", "dddd"], ["e" * 8]]
    assert [answer.exception(PATIENCE) for answer in answers[2:4]] == [fault, fault]
    assert read(batcher.tag(["dddd"])) == ["dddd"]


def test_what_is_left_of_a_failed_text_is_not_run(tagger, start, callers):
    batcher = start(batch_tokens=8)
    tagger.faults["aaaaaaaa"] = RuntimeError("out of memory")
    with busy(tagger, batcher, callers):
        failing, other = queue(callers, batcher, "a" * 8 + "b" * 8 + "c" * 8, "dd")
    assert failing.exception(PATIENCE) == tagger.faults["a" * 8]
    assert results([other]) == ["dd"]
    assert tagger.batches[1:] == [["a" * 8], ["dd"]]
    assert batcher.queued_tokens == 0


def refuses(batcher):
    try:
        batcher.tag([])
    except BatcherClosed:
        return True
    return False


def test_close_finishes_the_queue_and_refuses_what_comes_later(tagger, start, callers):
    batcher = start(batch_tokens=8)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abcdefgh", "ijklmnop", "q")
        ending = callers.submit(batcher.close)
        until(lambda: refuses(batcher))
        assert not ending.done()
    ending.result(PATIENCE)
    assert results([first, *answers]) == ["busy", "abcdefgh", "ijklmnop", "q"]
    assert not tagger.threads.pop().is_alive()
    batcher.close()
    assert refuses(batcher)


# A wait of an hour stands for one that never ends: a test hangs where the batcher waits for what can't come.


def test_answered_callers_are_waited_for(tagger, start, callers):
    batcher = start(wait=FOREVER)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abc", "def", "ghi")
    assert results([first]) == ["busy"]
    back = callers.submit(batcher.tag, ["jkl"])
    assert results([*answers, back]) == ["abc", "def", "ghi", "jkl"]
    assert tagger.batches == [["busy"], ["abc", "def", "ghi", "jkl"]]


def test_a_full_batch_waits_for_nobody(tagger, start, callers):
    batcher = start(wait=FOREVER, batch_tokens=8)
    with busy(tagger, batcher, callers):
        answers = queue(callers, batcher, "abcd", "efgh")
    assert results(answers) == ["abcd", "efgh"]


def test_callers_that_stay_away_are_waited_for_no_longer_than_allowed(tagger, start, callers):
    batcher = start(wait=0.02)
    with busy(tagger, batcher, callers):
        answers = queue(callers, batcher, "abc", "def")
    assert results(answers) == ["abc", "def"]


def test_a_single_caller_never_waits(start, callers):
    batcher = start(wait=FOREVER, batch_tokens=8)
    for text in ("abc", "a" * 100, "def"):
        assert results([callers.submit(batcher.tag, [text])]) == [text]


def test_closing_waits_for_nobody(tagger, start, callers):
    batcher = start(wait=FOREVER)
    with busy(tagger, batcher, callers):
        answers = queue(callers, batcher, "abc", "def")
    callers.submit(batcher.close).result(PATIENCE)
    assert results(answers) == ["abc", "def"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.text("가나다ab", max_size=40), max_size=4), min_size=1, max_size=40),
    st.fixed_dictionaries(
        {
            "max_queued_tokens": st.integers(1, 200),
            "batch_tokens": st.integers(1, 100),
            "padding": st.sampled_from([0, 0.1, 0.5]),
            "wait": st.sampled_from([0.0, 0.001]),
        }
    ),
)
def test_many_callers_each_get_their_own_and_the_counts_add_up(requests, options):
    tagger, reported = FakeTagger(), []
    batcher = Batcher(tagger, **options, on_batch=lambda *facts: reported.append(facts))

    def ask(texts):
        while True:
            try:
                return read(batcher.tag(texts))
            except QueueFull:
                time.sleep(0)

    with closing(batcher), ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, requests)) == requests
    asked = [text[i : i + 8] for texts in requests for text in texts for i in range(0, len(text), 8)]
    assert sorted(window for batch in tagger.batches for window in batch) == sorted(asked)
    assert [facts[:2] for facts in reported] == [(len(batch), sum(map(len, batch))) for batch in tagger.batches]
    assert all(len(b) == 1 or len(b) * max(map(len, b)) <= options["batch_tokens"] for b in tagger.batches)
    assert batcher.queued_tokens == 0
