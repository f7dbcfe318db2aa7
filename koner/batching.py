"""Batches across callers: texts that arrive together run through the model together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from koner.encoding import Window
from koner.tagger import Tagged, Tagger


class QueueFull(Exception):  # noqa: N818 (named as queue.Full is)
    """The queue has no room for the texts; they may be sent again when some of it has run."""


class BatcherClosed(Exception):  # noqa: N818 (goes with QueueFull)
    """The batcher takes no more texts."""


@dataclass(eq=False, slots=True)
class _Submission:
    """What one caller waits for: the rows of its windows, in order, and how many of them are missing."""

    rows: list[np.ndarray]
    missing: int
    answer: Future[list[np.ndarray]] = field(default_factory=Future)


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting:
    """A window in the queue, and its place among those of its submission."""

    window: Window
    submission: _Submission
    place: int


def fill_batch(lengths: Sequence[int], batch_tokens: int, padding: float) -> list[int]:
    """Picks the next batch from waiting windows, given their lengths in tokens, oldest first; gives their indices.

    The oldest is always in it, so that none waits forever. With it go those nearest to it in length, as long as the
    padded batch holds at most `batch_tokens` tokens and no more than the share `padding` of it is padding.
    """
    batch: list[int] = []
    longest = tokens = 0
    for i in sorted(range(len(lengths)), key=lambda i: abs(lengths[i] - lengths[0])):
        padded = max(longest, lengths[i]) * (len(batch) + 1)
        if not batch or (padded <= batch_tokens and padded - (tokens + lengths[i]) <= padding * padded):
            batch.append(i)
            longest = max(longest, lengths[i])
            tokens += lengths[i]
    return batch


class Batcher:
    """Tags texts for many threads at once; one background thread of its own runs the model, batch by batch.

    At most `max_queued_tokens` tokens (windows' lengths, unpadded) wait, and at most `max_callers` callers; a padded
    batch holds at most `batch_tokens`, save that of a single longer window, and at most the share `padding` of it is
    padding. While a batch runs, arrivals queue up for the next. After a batch the thread waits, at most `wait` seconds,
    until as many callers are there as there were at its end: answered callers tend to ask again at once, and without
    them the next batch would run half empty. A single caller never waits for that.

    `on_batch(windows, tokens, seconds)` is called in the background thread after each batch that ran, before its
    callers have their answers; tokens are unpadded.
    """

    def __init__(
        self,
        tagger: Tagger,
        *,
        max_queued_tokens: int,
        batch_tokens: int,
        padding: float,
        wait: float,
        on_batch: Callable[[int, int, float], None] | None = None,
        max_callers: int = 1024,
    ) -> None:
        self._tagger = tagger
        self._max_callers = max_callers
        self._max_queued_tokens = max_queued_tokens
        self._batch_tokens = batch_tokens
        self._padding = padding
        self._wait = wait
        self._on_batch = on_batch
        # Guards all below; only the background thread waits for it.
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._queued_tokens = 0
        self._inside = 0
        self._callers = 0
        self._expected_callers = 0
        self._last_end = 0.0
        self._closed = False
        # A daemon: a program that ends without close() must not hang on it.
        self._thread = threading.Thread(target=self._work, name="koner-batcher", daemon=True)
        self._thread.start()

    @property
    def queued_tokens(self) -> int:
        """The tokens that wait to be run, those of the running batch not counted."""
        return self._queued_tokens

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """Tags texts, in their order; blocks until they have run, from any thread.

        Raises `QueueFull` at once where they don't fit into the queue (texts of more tokens than it may ever hold are
        taken when it is empty) or too many callers wait, `BatcherClosed` after `close()`, and what the model raises for
        a batch they are in.
        """
        with self._changed:
            if self._inside >= self._max_callers:
                raise QueueFull(f"{self._inside} callers are waiting, and no more may")
            # From here on, not from the queue: under load as many are busy with their texts before and after it.
            self._inside += 1
        try:
            encoded = self._tagger.encode(texts)
            rows = iter(self._submit([window for text in encoded for window in text.windows]).result())
            return [
                self._tagger.decode(self._tagger.join(text, list(islice(rows, len(text.windows))))) for text in encoded
            ]
        finally:
            with self._changed:
                self._inside -= 1

    def close(self) -> None:
        """Takes no more texts, and returns when those in the queue have run."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _submit(self, windows: Sequence[Window]) -> Future[list[np.ndarray]]:
        submission = _Submission([np.empty(0)] * len(windows), len(windows))
        tokens = sum(map(len, windows))
        with self._changed:
            if self._closed:
                raise BatcherClosed("the batcher is closed")
            if self._waiting and self._queued_tokens + tokens > self._max_queued_tokens:
                raise QueueFull(
                    f"{tokens} tokens don't fit: {self._queued_tokens} of at most {self._max_queued_tokens} are waiting"
                )
            if not windows:
                submission.answer.set_result([])
                return submission.answer
            self._waiting += [_Waiting(window, submission, place) for place, window in enumerate(windows)]
            self._queued_tokens += tokens
            self._callers += 1
            self._changed.notify()
        return submission.answer

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                finished = self._run(batch)
            # Whatever it is, the callers must hear of it, or they wait forever.
            except BaseException as error:
                failed = {waiting.submission for waiting in batch}
                self._settle(failed)
                for submission in failed:
                    submission.answer.set_exception(error)
            else:
                self._settle(finished)
                for submission in finished:
                    submission.answer.set_result(submission.rows)

    def _next_batch(self) -> list[_Waiting]:
        """Takes the next batch out of the queue when it is time to run it; an empty one ends the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(self._worth_running, self._last_end + self._wait - time.monotonic())
            lengths = [len(waiting.window) for waiting in self._waiting]
            chosen = set(fill_batch(lengths, self._batch_tokens, self._padding))
            batch = [waiting for i, waiting in enumerate(self._waiting) if i in chosen]
            self._keep([waiting for i, waiting in enumerate(self._waiting) if i not in chosen])
            return batch

    def _worth_running(self) -> bool:
        return self._callers >= self._expected_callers or self._queued_tokens >= self._batch_tokens or self._closed

    def _run(self, batch: Sequence[_Waiting]) -> set[_Submission]:
        """Runs a batch; gives the submissions that miss nothing any more."""
        windows = [waiting.window for waiting in batch]
        start = time.perf_counter()
        rows = self._tagger.run(windows)
        if self._on_batch:
            self._on_batch(len(windows), sum(map(len, windows)), time.perf_counter() - start)
        finished = set()
        for waiting, row in zip(batch, rows, strict=True):
            submission = waiting.submission
            submission.rows[waiting.place] = row
            submission.missing -= 1
            if not submission.missing:
                finished.add(submission)
        return finished

    def _settle(self, leaving: set[_Submission]) -> None:
        """Counts callers out, with what they still have in the queue where their batch failed."""
        with self._changed:
            self._expected_callers = self._callers
            self._callers -= len(leaving)
            self._last_end = time.monotonic()
            self._keep([waiting for waiting in self._waiting if waiting.submission not in leaving])

    def _keep(self, waiting: list[_Waiting]) -> None:
        self._waiting = waiting
        self._queued_tokens = sum(len(w.window) for w in waiting)
