"""Batching across callers: texts that arrive together run through the model together."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from itertools import islice

from koner.inference.queueing import CallerGoneError, QueuedWindow, Request, RequestQueue
from koner.inference.tagger import EncodedText, TaggedText, Tagger

__all__ = ["Batcher", "BatcherClosedError", "CallerGoneError", "QueueFullError", "TooManyTokensError"]


class QueueFullError(Exception):
    """The queue has no room for the texts; the caller may retry when some of the queue has run."""


class BatcherClosedError(Exception):
    """The batcher is closed and accepts no more texts."""


class TooManyTokensError(Exception):
    """The texts of one caller have more tokens than allowed.

    Attributes:
        tokens: The number of tokens in the texts that were encoded until then.
        texts: The number of these texts.
    """

    def __init__(self, tokens: int, texts: int) -> None:
        super().__init__(f"the first {texts} texts have {tokens} tokens")
        self.tokens = tokens
        self.texts = texts


class Batcher:
    """A queue in front of a tagger that any number of threads share; one background thread runs batch after batch.

    While a batch runs, new texts queue up for the next one. After a batch, the thread waits until half as many requests
    are queued as at the end of that batch, because callers tend to send the next request as soon as they have their
    result; without the wait, the next batch would run nearly empty. As it does not wait for all of them, the requests
    of one half are read and answered while the model runs the other half. A single caller never waits. If callers
    compete, they take turns (see `RequestQueue`).

    Args:
        tagger: The tagger.
        max_queued_tokens: The maximal number of tokens that are run until a caller has its results, its own included
            and padding excluded. As callers take turns, no other caller counts with more tokens than it has itself.
        max_tokens: The maximal number of tokens of one caller.
        batch_tokens: The maximal number of tokens in a batch, padding included; a single longer window is a batch.
        turn_tokens: The maximal number of tokens of one caller in a batch; a single longer window is a turn.
        padding: The maximal share of padding in a batch.
        wait: The maximal time to wait for further requests after a batch, in seconds.
        on_batch: Called in the background thread after each successful batch, before its callers get their results,
            with the number of windows, the number of tokens (padding excluded) and the seconds that it took.
        on_encode: Called in the thread of each caller with a text as the model reads it.
        max_callers: The maximal number of callers at a time.
        await_result: Called in the thread of each caller; waits for the result of a future and returns it.
    """

    def __init__(
        self,
        tagger: Tagger,
        *,
        max_queued_tokens: int,
        max_tokens: int,
        batch_tokens: int,
        turn_tokens: int,
        padding: float,
        wait: float,
        on_batch: Callable[[int, int, float], None] | None = None,
        on_encode: Callable[[EncodedText], None] | None = None,
        max_callers: int = 1024,
        await_result: Callable[[Future[list[TaggedText] | None]], list[TaggedText] | None] = Future.result,
    ) -> None:
        self._tagger = tagger
        self._max_callers = max_callers
        self._max_queued_tokens = max_queued_tokens
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._wait = wait
        self._on_batch = on_batch
        self._on_encode = on_encode
        self._await_result = await_result
        # Guards the attributes below; only the background thread waits for it.
        self._changed = threading.Condition()
        self._queue = RequestQueue(batch_tokens, turn_tokens, padding)
        self._callers = 0
        self._open_requests: set[Request] = set()
        self._expected_requests = 0
        self._last_batch_end = 0.0
        self._closed = False
        # A daemon thread, so that a program can exit without calling close().
        self._thread = threading.Thread(target=self._run_batches, name="koner-batcher", daemon=True)
        self._thread.start()

    @property
    def queued_tokens(self) -> int:
        """The number of tokens in the queue, without those of the running batch."""
        return self._queue.tokens

    def tag(self, texts: Sequence[str], is_gone: Callable[[], bool] = lambda: False) -> list[TaggedText]:
        """Tag texts and wait for the results; any thread may call it.

        Texts with more tokens than the queue may ever hold are accepted while the queue is empty.

        Args:
            texts: The texts.
            is_gone: Returns whether nobody waits for the results any more. The background thread calls it before each
                batch with one of the texts; it must be quick and must not raise.

        Returns:
            The tagged texts, in order.

        Raises:
            TooManyTokensError: If the texts have too many tokens. They are encoded one after the other until then.
            QueueFullError: At once, if the texts do not fit into the queue or too many callers wait.
            BatcherClosedError: If `close()` was called.
            CallerGoneError: If `is_gone` returned True. The rest of the texts is not run.
            Exception: Any exception that the model raises for a batch with one of the texts.
        """
        with self._changed:
            if self._callers >= self._max_callers:
                raise QueueFullError(f"{self._callers} callers are waiting, which is the maximum")
            # Count callers, not requests in the queue: under load, as many callers encode or decode their texts.
            self._callers += 1
        try:
            encoded_texts = self._encode(texts)
            windows = [window for text in encoded_texts for window in text.windows]
            request = Request(windows, is_gone, encoded_texts)
            self._submit(request)
            tagged_texts = self._await_result(request.future)
            return self._decode([request, *request.others]) if tagged_texts is None else tagged_texts
        finally:
            with self._changed:
                self._callers -= 1

    def close(self) -> None:
        """Accept no more texts, and return when those in the queue have run."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _encode(self, texts: Sequence[str]) -> list[EncodedText]:
        encoded_texts: list[EncodedText] = []
        tokens = 0
        for text in texts:
            encoded_texts += self._tagger.encode([text])
            if self._on_encode:
                self._on_encode(encoded_texts[-1])
            tokens += sum(map(len, encoded_texts[-1].windows))
            if tokens > self._max_tokens:
                raise TooManyTokensError(tokens, len(encoded_texts))
        return encoded_texts

    def _submit(self, request: Request) -> None:
        tokens = request.waiting_tokens
        with self._changed:
            if self._closed:
                raise BatcherClosedError("the batcher is closed")
            others = sum(min(other.waiting_tokens, tokens) for other in self._open_requests)
            if others and others + tokens > self._max_queued_tokens:
                raise QueueFullError(
                    f"{tokens} tokens don't fit: {others} of at most {self._max_queued_tokens} would run before them"
                )
            if not request.windows:
                self._let_decode([request])
                return
            self._open_requests.add(request)
            self._queue.add(request)
            self._changed.notify()

    @staticmethod
    def _let_decode(requests: Sequence[Request]) -> None:
        """Let the caller of the first request decode the texts of all, while this thread runs the next batch."""
        if requests:
            first, *first.others = requests
            first.future.set_result(None)

    def _decode(self, requests: Sequence[Request]) -> list[TaggedText]:
        """Decode the texts of requests together, give the other callers theirs, and return those of the first."""
        _, *others = requests
        try:
            logits = [
                self._tagger.join(text, list(islice(windows, len(text.windows))))
                for request, windows in ((request, iter(request.logits)) for request in requests)
                for text in request.texts
            ]
            tagged_texts = iter(self._tagger.decode_all(logits))
        # Any exception must reach the other callers, or they would wait forever.
        except BaseException as error:
            for request in others:
                request.future.set_exception(error)
            raise
        own, *results = (list(islice(tagged_texts, len(request.texts))) for request in requests)
        for request, result in zip(others, results, strict=True):
            request.future.set_result(result)
        return own

    def _run_batches(self) -> None:
        while batch := self._take_batch():
            # In the order of the batch, which the queue keeps; with the number of windows of each.
            requests = Counter(queued.request for queued in batch)
            try:
                self._run(batch)
            # Any exception must reach the callers, or they would wait forever.
            except BaseException as error:
                self._end_batch(requests, requests)
                for request in requests:
                    request.future.set_exception(error)
            else:
                completed = [request for request in requests if not request.pending]
                self._end_batch(requests, completed)
                self._let_decode([request for request in completed if requests[request] == len(request.windows)])
                # Nobody else waits until the texts of a request that took several batches are decoded.
                for request in completed:
                    if requests[request] < len(request.windows):
                        self._let_decode([request])

    def _take_batch(self) -> list[QueuedWindow]:
        """Wait until the next batch is due and take it out of the queue; return an empty batch after the last."""
        with self._changed:
            while self._queue or not self._closed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._changed.wait_for(self._is_batch_due, self._last_batch_end + self._wait - time.monotonic())
                batch, gone = self._queue.take_batch()
                self._open_requests.difference_update(gone)
                for request in gone:
                    request.future.set_exception(CallerGoneError("the caller has gone"))
                if batch:
                    return batch
        return []

    def _is_batch_due(self) -> bool:
        return (
            len(self._open_requests) >= self._expected_requests
            or self._queue.tokens >= self._batch_tokens
            or self._closed
        )

    def _run(self, batch: Sequence[QueuedWindow]) -> None:
        """Run a batch and give the logits to its requests."""
        windows = [queued.window for queued in batch]
        start = time.perf_counter()
        window_logits = self._tagger.run(windows)
        if self._on_batch:
            self._on_batch(len(windows), sum(map(len, windows)), time.perf_counter() - start)
        for queued, logits in zip(batch, window_logits, strict=True):
            queued.request.logits[queued.position] = logits
            queued.request.pending -= 1

    def _end_batch(self, requests: Collection[Request], finished: Collection[Request]) -> None:
        """Remove the finished requests of a batch, with what waits of failed ones; the others wait for a turn again."""
        with self._changed:
            self._expected_requests = len(self._open_requests) // 2
            self._open_requests.difference_update(finished)
            self._last_batch_end = time.monotonic()
            for request in finished:
                self._queue.discard(request)
            for request in requests:
                self._queue.continue_later(request)
