"""The connections of a worker: what each is doing, and those that wait for their clients."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from selectors import BaseSelector
from typing import Any

from app.reading import RequestReader

# For the model, the metrics, the log and the files that requests open for a moment.
_RESERVED_FILES = 16


class State(Enum):
    """What a connection is doing. While it runs, it belongs to a thread of the pool; otherwise to the worker's loop."""

    READING = "reading"
    RUNNING = "running"
    WRITING = "writing"
    LINGERING = "lingering"
    CLOSED = "closed"


class Connection:
    """A connection of a client.

    Attributes:
        state: What it is doing.
        phase: The part of a request that it waits for while it reads.
        deadline: The time (monotonic) at which it must have finished that.
        output: The part of the response that has not been sent.
        is_last: Whether the connection is to be closed after that response.
        size: The number of bytes that it held when it was measured.
    """

    def __init__(self, sock: Any, client: Any, server: Any, reader: RequestReader, deadline: float) -> None:
        self.sock = sock
        self.client = client
        self.server = server
        self.reader = reader
        self.phase = reader.phase
        self.deadline = deadline
        self.state = State.READING
        self.output = memoryview(b"")
        self.is_last = False
        self.size = 0

    def send(self) -> None:
        """Send as much of the output as the client takes now.

        Raises:
            OSError: If the connection is broken.
        """
        with suppress(BlockingIOError):
            while self.output:
                self.output = self.output[self.sock.send(self.output) :]


class Parts(list[bytes]):
    """The parts of a response, collected from gunicorn's `Response`, which writes to a socket."""

    def sendall(self, data: bytes) -> None:
        """Add a part."""
        self.append(data)


class WaitingConnections:
    """The connections that wait for their clients, in the order in which they began to wait.

    Args:
        poller: What waits for all of them.

    Attributes:
        size: The number of bytes that all connections hold, with those that run.
    """

    def __init__(self, poller: BaseSelector) -> None:
        self.size = 0
        self._poller = poller
        self._connections: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._connections))

    def add(self, connection: Connection, event: int, callback: Callable[[Any], None]) -> None:
        """Call a function when a connection can be read or written."""
        if connection in self._connections:
            self._poller.modify(connection.sock, event, callback)
        else:
            self._poller.register(connection.sock, event, callback)
            self._connections[connection] = None

    def remove(self, connection: Connection) -> None:
        """Stop waiting for a connection, if it waits."""
        if connection in self._connections:
            del self._connections[connection]
            self._poller.unregister(connection.sock)

    def measure(self, connection: Connection, size: int) -> None:
        """Record the number of bytes that a connection holds."""
        self.size += size - connection.size
        connection.size = size

    def oldest(self) -> Connection:
        """Return the connection that has waited longest."""
        return next(iter(self._connections))

    def largest(self) -> Connection:
        """Return the connection that holds most; of equal ones, that which has waited longest."""
        return max(self._connections, key=lambda connection: connection.size)


def reserve_files(connections: int) -> int:
    """Raise this process's limit of open files for a number of connections, and return how many it allows."""
    others = len(os.listdir("/dev/fd")) + _RESERVED_FILES
    limit, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < connections + others:
        limit = connections + others if maximum == resource.RLIM_INFINITY else min(connections + others, maximum)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, maximum))
    return max(1, min(connections, limit - others))
