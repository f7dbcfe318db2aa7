"""Requests that run in the thread of the worker's loop, and let it go on while they wait for the model.

A thread for each request would cost more time than many a request: after a batch, all the threads that waited for it
compete for the interpreter with each other and with the thread of the model.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")

# The size of a body up to which a request runs in a greenlet. Without the model it takes a few milliseconds at most.
_SMALL_BODY = 4096


def is_small(request: Any) -> bool:
    """Return whether a complete request, as gunicorn parses it, takes little time but for that of the model."""
    is_infer = request.method == "POST" and request.path.endswith("/infer")
    return is_infer and isinstance(request.body, io.BytesIO) and request.body.getbuffer().nbytes <= _SMALL_BODY


class RequestGreenlet(greenlet):  # type: ignore[misc]
    """A function that runs in the thread of a loop; start it by `switch()`.

    Args:
        function: The function.
        defer: Has the loop call a function soon; any thread may call it.
    """

    def __init__(self, function: Callable[[], None], defer: Callable[[Callable[[], Any]], None]) -> None:
        super().__init__(function)
        self._defer = defer

    def wait(self, future: Future[Any]) -> None:
        """Return to the loop until a future is done; only the function itself may call this."""
        future.add_done_callback(lambda _: self._defer(self.switch))
        self.parent.switch()


def await_result(future: Future[T]) -> T:
    """Return the result of a future, or raise its exception; only the current greenlet or thread waits for it."""
    current = getcurrent()
    if isinstance(current, RequestGreenlet) and not future.done():
        current.wait(future)
    return future.result()
