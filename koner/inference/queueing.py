"""The queue of a batcher: which windows of which callers run next."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from math import inf

import numpy as np

from koner.inference.tagger import EncodedText, TaggedText
from koner.tokens.windows import Window


class CallerGoneError(Exception):
    """The caller does not wait for its results any more, so its windows are not run."""


@dataclass(eq=False, slots=True)
class Request:
    """The windows of one caller.

    Attributes:
        windows: The windows, in order.
        is_gone: Returns whether the caller does not wait for the results any more; any thread may call it.
        waiting: The positions of the windows that are in the queue, in the opposite order of their turns: the longest
            window is the last one, so that windows of similar length run together.
        waiting_tokens: The number of tokens in these windows.
        logits: The logits of each window, in order, as far as they are computed.
        pending: The number of windows without logits.
        had_turn: Whether a window has left the queue.
        texts: The texts of the windows.
        others: The requests whose texts its caller decodes together with its own.
        future: What the caller waits for: the tagged texts, or None if it decodes them itself.
    """

    windows: Sequence[Window]
    is_gone: Callable[[], bool]
    texts: Sequence[EncodedText] = ()
    waiting: list[int] = field(init=False)
    waiting_tokens: int = field(init=False)
    logits: list[np.ndarray] = field(init=False)
    pending: int = field(init=False)
    had_turn: bool = False
    others: Sequence[Request] = ()
    future: Future[list[TaggedText] | None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.waiting = sorted(range(len(self.windows)), key=lambda i: (len(self.windows[i]), -i))
        self.waiting_tokens = sum(map(len, self.windows))
        self.logits = [np.empty(0)] * len(self.windows)
        self.pending = len(self.windows)

    @property
    def next_length(self) -> int:
        """The length of the longest waiting window, in tokens."""
        return len(self.windows[self.waiting[-1]])


@dataclass(frozen=True, eq=False, slots=True)
class QueuedWindow:
    """A window of a batch, with its request and its position among the windows of the request."""

    request: Request
    position: int

    @property
    def window(self) -> Window:
        """The window."""
        return self.request.windows[self.position]


class _Batch:
    """A batch that is being filled, with at most a given share of padding."""

    def __init__(self, padding: float) -> None:
        self.windows: list[QueuedWindow] = []
        self._padding = padding
        self._longest = self._tokens = 0

    def has_room(self, length: int, max_tokens: int) -> bool:
        """Return whether a window may join. The first one always may."""
        padded = max(self._longest, length) * (len(self.windows) + 1)
        is_dense = padded - (self._tokens + length) <= self._padding * padded
        return not self.windows or (padded <= max_tokens and is_dense)

    def add(self, queued: QueuedWindow) -> None:
        self.windows.append(queued)
        self._longest = max(self._longest, len(queued.window))
        self._tokens += len(queued.window)


# The requests that wait for a turn: the length of the longest waiting window, the number of the turn, the request.
_Lane = list[tuple[int, int, Request]]


class RequestQueue:
    """The windows that wait, of any number of requests; not for several threads at a time.

    Requests take turns. In a turn, a request gets at most `turn_tokens`, or one longer window; after the batch it goes
    to the end of the queue. So a request waits for one turn of each other request, however large those are. The first
    request of the queue is always in the next batch. Those that wait for their first turn join it, the nearest in
    length first, until the batch is full. Those that had a turn join only as long as the batch is not larger than one
    turn, so that large requests are never the reason for a batch that takes longer.

    Args:
        batch_tokens: The maximal number of tokens in a batch of several windows, padding included.
        turn_tokens: The maximal number of tokens of one request in a batch, if it has several windows there.
        padding: The maximal share of padding in a batch.
    """

    def __init__(self, batch_tokens: int, turn_tokens: int, padding: float) -> None:
        self._batch_tokens = batch_tokens
        self._turn_tokens = min(turn_tokens, batch_tokens)
        self._padding = padding
        self._tokens = 0
        self._numbers = count()
        # In the order of their turns.
        self._turns: OrderedDict[Request, int] = OrderedDict()
        self._new: _Lane = []
        self._started: _Lane = []

    def __len__(self) -> int:
        """Return the number of requests that wait for a turn."""
        return len(self._turns)

    @property
    def tokens(self) -> int:
        """The number of tokens that wait, padding excluded."""
        return self._tokens

    def add(self, request: Request) -> None:
        """Add a request with at least one window."""
        self._tokens += request.waiting_tokens
        self._await_turn(request)

    def continue_later(self, request: Request) -> None:
        """Put a request to the end of the queue after a batch, if windows of it wait."""
        if request.waiting:
            self._await_turn(request)

    def discard(self, request: Request) -> None:
        """Remove what waits of a request that is not in line, because windows of it were in the batch that ended."""
        self._tokens -= request.waiting_tokens
        request.waiting.clear()
        request.waiting_tokens = 0

    def take_batch(self) -> tuple[list[QueuedWindow], list[Request]]:
        """Take the next batch out of the queue.

        The time depends on the number of windows in the batch, and on the logarithm of the number of requests.

        Returns:
            The windows of the batch, none if the queue is empty; and the requests that were removed because their
            callers have gone.
        """
        batch = _Batch(self._padding)
        gone: list[Request] = []
        while self._turns and not batch.windows:
            first, number = next(iter(self._turns.items()))
            length = first.next_length
            lane, max_tokens = self._lane(first)
            del lane[bisect_left(lane, (length, number))]
            self._take_turn(first, batch, max_tokens, gone)
            if batch.windows:
                self._fill(batch, self._new, self._batch_tokens, length, gone)
                self._fill(batch, self._started, self._turn_tokens, length, gone)
        return batch.windows, gone

    def _lane(self, request: Request) -> tuple[_Lane, int]:
        """Return the lane of a request, and the maximal number of tokens in a batch that it may join."""
        return (self._started, self._turn_tokens) if request.had_turn else (self._new, self._batch_tokens)

    def _await_turn(self, request: Request) -> None:
        number = next(self._numbers)
        self._turns[request] = number
        insort(self._lane(request)[0], (request.next_length, number, request))

    def _fill(self, batch: _Batch, lane: _Lane, max_tokens: int, length: int, gone: list[Request]) -> None:
        """Let the requests of a lane join a batch, the nearest in length first.

        If a shorter window does not fit, no window that is still shorter would fit, and likewise for longer ones.
        """
        low = high = bisect_left(lane, (length,))
        lowest, highest = 0, len(lane)
        while low > lowest or high < highest:
            below = length - lane[low - 1][0] if low > lowest else inf
            above = lane[high][0] - length if high < highest else inf
            if above <= below:
                if self._take_turn(lane[high][2], batch, max_tokens, gone):
                    high += 1
                else:
                    highest = high
            elif self._take_turn(lane[low - 1][2], batch, max_tokens, gone):
                low -= 1
            else:
                lowest = low
        del lane[low:high]

    def _take_turn(self, request: Request, batch: _Batch, max_tokens: int, gone: list[Request]) -> bool:
        """Move windows of a request into a batch; return False if none fits, so that the request stays in line."""
        if not batch.has_room(request.next_length, max_tokens):
            return False
        del self._turns[request]
        if request.is_gone():
            self.discard(request)
            gone.append(request)
            return True
        request.had_turn = True
        taken = 0
        while request.waiting and batch.has_room(request.next_length, max_tokens):
            length = request.next_length
            if taken and taken + length > self._turn_tokens:
                break
            batch.add(QueuedWindow(request, request.waiting.pop()))
            taken += length
        request.waiting_tokens -= taken
        self._tokens -= taken
        return True
