"""The connections of clients: whether somebody still waits for the response to a request."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from functools import partial

from flask import request

# The kernel reports POLLHUP and POLLERR in any case. Only Linux can also report that a client has closed its side while
# bytes of it have not been read yet.
_CLOSED = getattr(select, "POLLRDHUP", 0)


def watch_client() -> Callable[[], bool]:
    """Return a function, for any thread, that returns whether the client of the current request has gone.

    It has gone if its side of the connection is closed. A server that does not tell the connection's socket, such as
    that of the tests, has clients that never go.
    """
    connection = request.environ.get("gunicorn.socket")
    return partial(_is_closed, connection) if connection else lambda: False


def _is_closed(connection: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, _CLOSED)
        return bool(poll.poll(0))
    # This process has closed the connection itself.
    except (OSError, ValueError):
        return True
