import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.inference.batching import Batcher, BatcherClosedError, CallerGoneError, QueueFullError, TooManyTokensError
from koner.inference.tagger import TaggedText

# Seconds; far longer than any test takes, so that a failure can not block the tests and no result depends on it.
PATIENCE = 60
FOREVER = 3600
OPTIONS = {
    "max_queued_tokens": 1000,
    "max_tokens": 1000,
    "batch_tokens": 64,
    "turn_tokens": 32,
    "padding": 0.5,
    "wait": 0.0,
}


class FakeTagger:
    """Split texts into windows of at most 8 characters, whose logits are the characters, so that mix-ups show."""

    def __init__(self):
        self.encoded, self.batches, self.threads, self.failures = [], [], set(), {}
        self.decoded, self.undecodable = [], set()
        self.started = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def encode(self, texts):
        self.encoded += texts
        return [SimpleNamespace(text=t, windows=[t[i : i + 8] for i in range(0, len(t), 8)]) for t in texts]

    def run(self, windows):
        self.batches.append(list(windows))
        self.threads.add(threading.current_thread())
        self.started.release()
        assert self.free.wait(PATIENCE)
        for window in self.failures.keys() & windows:
            raise self.failures[window]
        return [np.array([[ord(c)] for c in window], np.float32) for window in windows]

    def join(self, text, rows):
        assert [len(row) for row in rows] == [len(window) for window in text.windows]
        return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)

    def decode(self, logits):
        return TaggedText((), tuple(chr(int(row[0])) for row in logits), ())

    def decode_all(self, texts):
        assert threading.current_thread() not in self.threads
        tagged = [self.decode(text) for text in texts]
        self.decoded.append(to_texts(tagged))
        if self.undecodable.intersection(self.decoded[-1]):
            raise ValueError("undecodable")
        return tagged


def to_texts(tagged):
    return ["".join(t.token_tags) for t in tagged]


@pytest.fixture
def tagger():
    return FakeTagger()


@pytest.fixture
def start(tagger, callers):
    """Create batchers; release their callers and close them at the end of the test, even if it fails."""
    batchers = []

    def make(**options):
        batchers.append(Batcher(tagger, **(OPTIONS | options)))
        return batchers[-1]

    yield make
    tagger.free.set()
    for batcher in batchers:
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
def busy(tagger, batcher, callers, text="busy", **options):
    """Keep the first batch of a text running."""
    tagger.free.clear()
    first = callers.submit(batcher.tag, [text], **options)
    assert tagger.started.acquire(timeout=PATIENCE)
    try:
        yield first
    finally:
        tagger.free.set()


def queue(callers, batcher, *texts):
    """Queue each text from a caller of its own, in this order."""
    answers = []
    for text in texts:
        tokens = batcher.queued_tokens + len(text)
        answers.append(callers.submit(batcher.tag, [text]))
        until(lambda tokens=tokens: batcher.queued_tokens == tokens)
    return answers


def results(answers):
    return [text for answer in answers for text in to_texts(answer.result(PATIENCE))]


def test_texts_that_arrive_during_a_batch_are_the_next_batch(tagger, start, callers):
    batcher = start()
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abcd", "efg", "hijkl")
        assert tagger.batches == [["busy"]]
    assert results([first, *answers]) == ["busy", "abcd", "efg", "hijkl"]
    assert [set(batch) for batch in tagger.batches] == [{"busy"}, {"abcd", "efg", "hijkl"}]
    assert batcher.queued_tokens == 0


def test_results_are_in_the_order_of_the_texts(tagger, start):
    texts = ["a" * 20, "", "b", "c" * 8, "d" * 9, "ef"]
    assert to_texts(start(batch_tokens=16).tag(texts)) == texts
    assert len(tagger.batches) > 1
    assert len(tagger.threads) == 1
    assert threading.current_thread() not in tagger.threads


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_texts_without_tokens_are_tagged_without_the_model(tagger, start, texts):
    assert to_texts(start().tag(texts)) == texts
    assert tagger.batches == []


def test_a_full_queue_refuses_texts_at_once(tagger, start, callers):
    batcher = start(max_queued_tokens=8)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abcd", "efgh")
        with pytest.raises(QueueFullError, match="3 tokens don't fit: 6 of at most 8 would run before them"):
            batcher.tag(["xyz"])
        answers += queue(callers, batcher, "ij")
        assert batcher.queued_tokens == 10
    assert results([first, *answers]) == ["busy", "abcd", "efgh", "ij"]
    assert to_texts(batcher.tag(["xyz"])) == ["xyz"]


def test_too_many_callers_are_refused_at_once(tagger, start, callers):
    batcher = start(max_callers=3)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "a", "b")
        with pytest.raises(QueueFullError, match="3 callers are waiting, which is the maximum"):
            batcher.tag(["c"])
    assert results([first, *answers]) == ["busy", "a", "b"]
    assert to_texts(batcher.tag(["c"])) == ["c"]


def test_texts_larger_than_the_queue_are_accepted_while_it_is_empty(tagger, start, callers):
    batcher = start(max_queued_tokens=10)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "abcdefghijkl")
        for text in ("abcdef", "abcdefghijkl"):
            with pytest.raises(QueueFullError):
                batcher.tag([text])
        # A small text does not wait until a larger one is done.
        answers += queue(callers, batcher, "x")
    assert results([first, *answers]) == ["busy", "abcdefghijkl", "x"]


def test_texts_with_too_many_tokens_are_refused_before_all_are_encoded(tagger, start):
    batcher = start(max_tokens=10)
    assert to_texts(batcher.tag(["abcdef", "ghij"])) == ["abcdef", "ghij"]
    tagger.encoded.clear()
    with pytest.raises(TooManyTokensError) as error:
        batcher.tag(["abcdef", "ghijk", "l", "m"])
    assert (error.value.tokens, error.value.texts) == (11, 2)
    assert tagger.encoded == ["abcdef", "ghijk"]
    assert len(tagger.batches) == 1


def test_a_small_text_waits_for_one_turn_of_a_large_one(tagger, start, callers):
    batcher = start(turn_tokens=8)
    with busy(tagger, batcher, callers, "a" * 80) as large:
        small = queue(callers, batcher, "b" * 8)
    assert results([large, *small]) == ["a" * 80, "b" * 8]
    assert tagger.batches[:3] == [["a" * 8], ["b" * 8], ["a" * 8]]


def test_large_texts_run_in_turns(tagger, start, callers):
    batcher = start(turn_tokens=16)
    with busy(tagger, batcher, callers, "a" * 48) as large:
        others = queue(callers, batcher, "b" * 32)
    assert results([large, *others]) == ["a" * 48, "b" * 32]
    assert tagger.batches == [[letter * 8] * 2 for letter in "ababa"]


def test_the_rest_of_a_text_is_not_run_if_its_caller_has_gone(tagger, start, callers):
    batcher = start(turn_tokens=8)
    is_gone = threading.Event()
    with busy(tagger, batcher, callers, "a" * 80, is_gone=is_gone.is_set) as large:
        waiting = callers.submit(batcher.tag, ["bbb"], is_gone.is_set)
        until(lambda: batcher.queued_tokens == 72 + 3)
        other = queue(callers, batcher, "cccc")
        is_gone.set()
    assert results(other) == ["cccc"]
    for answer in (large, waiting):
        assert isinstance(answer.exception(PATIENCE), CallerGoneError)
    assert tagger.batches == [["a" * 8], ["cccc"]]
    assert batcher.queued_tokens == 0
    assert to_texts(batcher.tag(["bbb"])) == ["bbb"]


def test_a_batcher_closes_although_all_callers_have_gone(tagger, start, callers):
    batcher = start(turn_tokens=8)
    is_gone = threading.Event()
    with busy(tagger, batcher, callers, "a" * 80, is_gone=is_gone.is_set) as large:
        is_gone.set()
        ending = callers.submit(batcher.close)
    ending.result(PATIENCE)
    assert isinstance(large.exception(PATIENCE), CallerGoneError)


def test_a_batch_has_the_oldest_window_and_windows_of_similar_length(tagger, start, callers):
    batcher = start(batch_tokens=24)
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "aaaaaaaa", "b", "cccccccc", "d", "e", "ffffffff", "gggggggg")
    assert results([first, *answers]) == ["busy", "aaaaaaaa", "b", "cccccccc", "d", "e", "ffffffff", "gggggggg"]
    assert tagger.batches[1:] == [["aaaaaaaa", "cccccccc", "ffffffff"], ["b", "d", "e"], ["gggggggg"]]


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), SystemExit(1)])
def test_an_exception_reaches_only_the_callers_of_its_batch(tagger, start, callers, failure):
    batcher = start(batch_tokens=16)
    tagger.failures["cccc"] = failure
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "aaaaaaaa", "bbbbbbbb", "cccc", "dddd", "eeeeeeee")
    assert results([first, answers[0], answers[1], answers[4]]) == ["busy", "a" * 8, "b" * 8, "e" * 8]
    assert tagger.batches[1:] == [["a" * 8, "b" * 8], ["cccc", "dddd"], ["e" * 8]]
    assert [answer.exception(PATIENCE) for answer in answers[2:4]] == [failure, failure]
    assert to_texts(batcher.tag(["dddd"])) == ["dddd"]


def test_the_queued_windows_of_a_failed_text_are_not_run(tagger, start, callers):
    batcher = start(batch_tokens=8)
    tagger.failures["aaaaaaaa"] = RuntimeError("out of memory")
    with busy(tagger, batcher, callers):
        failing, other = queue(callers, batcher, "a" * 8 + "b" * 8 + "c" * 8, "dd")
    assert failing.exception(PATIENCE) == tagger.failures["a" * 8]
    assert results([other]) == ["dd"]
    assert tagger.batches[1:] == [["a" * 8], ["dd"]]
    assert batcher.queued_tokens == 0


def test_each_text_is_reported_when_it_is_encoded(tagger, start):
    reported = []
    batcher = start(on_encode=lambda text: reported.append(text.text))
    batcher.tag(["abc", "", "def"])
    assert reported == ["abc", "", "def"]


def test_the_texts_of_a_batch_are_decoded_together(tagger, start, callers):
    batcher = start(batch_tokens=24)
    with busy(tagger, batcher, callers, "busy") as first:
        answers = queue(callers, batcher, "aaaaaaaa", "bbbbbbbb", "cccccccc", "dddd")
    assert results([first, *answers]) == ["busy", "a" * 8, "b" * 8, "c" * 8, "dddd"]
    assert sorted(tagger.decoded) == [["a" * 8, "b" * 8, "c" * 8], ["busy"], ["dddd"]]


def test_nobody_waits_until_a_text_of_several_batches_is_decoded(tagger, start, callers):
    batcher = start(turn_tokens=16)
    with busy(tagger, batcher, callers, "a" * 24) as large:
        others = queue(callers, batcher, "b" * 8)
    assert results([large, *others]) == ["a" * 24, "b" * 8]
    assert tagger.batches == [["a" * 8] * 2, ["b" * 8, "a" * 8]]
    assert sorted(tagger.decoded) == [["a" * 24], ["b" * 8]]


def test_an_exception_of_decoding_reaches_the_callers_of_its_batch(tagger, start, callers):
    batcher = start(batch_tokens=16)
    tagger.undecodable.add("cccc")
    with busy(tagger, batcher, callers) as first:
        answers = queue(callers, batcher, "aaaaaaaa", "bbbbbbbb", "cccc", "dddd")
    assert results([first, *answers[:2]]) == ["busy", "a" * 8, "b" * 8]
    assert [str(answer.exception(PATIENCE)) for answer in answers[2:]] == ["undecodable"] * 2
    assert to_texts(batcher.tag(["dddd"])) == ["dddd"]


def refuses(batcher):
    try:
        batcher.tag([])
    except BatcherClosedError:
        return True
    return False


def test_close_runs_the_queue_and_refuses_later_texts(tagger, start, callers):
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


# A wait of an hour has no end for a test: the test would block if the batcher waited for requests that can't come.


def test_the_batcher_waits_for_the_next_requests_of_half_of_its_callers(tagger, start, callers):
    batcher = start(wait=FOREVER)
    with busy(tagger, batcher, callers):
        answers = queue(callers, batcher, "abc", "def", "ghi", "jkl")
    assert results(answers) == ["abc", "def", "ghi", "jkl"]
    back = queue(callers, batcher, "mno")
    assert not back[0].done()
    back.append(callers.submit(batcher.tag, ["pqr"]))
    assert results(back) == ["mno", "pqr"]
    assert tagger.batches == [["busy"], ["abc", "def", "ghi", "jkl"], ["mno", "pqr"]]


def test_a_full_batch_runs_without_a_wait(tagger, start, callers):
    batcher = start(wait=FOREVER, batch_tokens=8)
    with busy(tagger, batcher, callers):
        answers = queue(callers, batcher, "abcd", "efgh")
    assert results(answers) == ["abcd", "efgh"]


def test_the_wait_for_further_requests_is_limited(tagger, start, callers):
    batcher = start(wait=0.02)
    with busy(tagger, batcher, callers):
        answers = queue(callers, batcher, "abc", "def")
    assert results(answers) == ["abc", "def"]


def test_a_single_caller_never_waits(start, callers):
    batcher = start(wait=FOREVER, batch_tokens=8)
    for text in ("abc", "a" * 100, "def"):
        assert results([callers.submit(batcher.tag, [text])]) == [text]


def test_closing_ends_the_wait(tagger, start, callers):
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
            "max_tokens": st.just(160),
            "batch_tokens": st.integers(1, 100),
            "turn_tokens": st.integers(1, 100),
            "padding": st.sampled_from([0, 0.1, 0.5]),
            "wait": st.sampled_from([0.0, 0.001]),
        }
    ),
)
def test_many_callers_get_their_own_results_and_the_reported_counts_add_up(requests, options):
    tagger, reported = FakeTagger(), []
    batcher = Batcher(tagger, **options, on_batch=lambda *report: reported.append(report))

    def ask(texts):
        while True:
            try:
                return to_texts(batcher.tag(texts))
            except QueueFullError:
                time.sleep(0)

    with closing(batcher), ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, requests)) == requests
    expected = [text[i : i + 8] for texts in requests for text in texts for i in range(0, len(text), 8)]
    assert sorted(window for batch in tagger.batches for window in batch) == sorted(expected)
    assert [report[:2] for report in reported] == [(len(batch), sum(map(len, batch))) for batch in tagger.batches]
    assert all(len(b) == 1 or len(b) * max(map(len, b)) <= options["batch_tokens"] for b in tagger.batches)
    assert batcher.queued_tokens == 0
