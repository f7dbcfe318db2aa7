"""The connections of clients: whether somebody still waits for the response to a request."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from functools import partial

from flask import request

# The kernel reports POLLHUP and POLLERR in any case. Only Linux can also report that a client has closed its side while
# bytes of it have not been read yet.
_CLOSED = getattr(select, "POLLRDHUP", 0)
# The state of a TCP connection that neither side has closed, in Linux' struct tcp_info.
_ESTABLISHED = 1


def watch_client() -> Callable[[], bool]:
    """Return a function, for any thread, that returns whether the client of the current request has gone.

    It has gone if its side of the connection is closed. A server that does not tell the connection's socket, such as
    that of the tests, has clients that never go.
    """
    connection = request.environ.get("gunicorn.socket")
    return partial(_is_closed, connection) if connection else lambda: False


def _is_closed(connection: socket.socket) -> bool:
    # poll() lets other threads run, and the thread that runs the model would wait for its next turn.
    state = _tcp_state(connection)
    if state is not None:
        return state != _ESTABLISHED
    poll = select.poll()
    try:
        poll.register(connection, _CLOSED)
        return bool(poll.poll(0))
    # This process has closed the connection itself.
    except (OSError, ValueError):
        return True


def _tcp_state(connection: socket.socket) -> int | None:
    """Return the state of a connection as Linux numbers it; None on other systems, and if it is not TCP or closed."""
    if sys.platform != "linux":
        return None
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return None
