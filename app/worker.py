"""gunicorn's worker for this service: no client can hold one of its threads, however slowly it sends or reads.

One thread reads and writes all connections without blocking. The application only gets complete requests, and returns a
complete response for each: it runs in the threads of a pool or, for a small request to `POST /infer`, in the thread of
the connections itself.
"""

from __future__ import annotations

import errno
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from socket import SHUT_WR
from typing import Any

from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

from app.connections import Connection, Parts, State, WaitingConnections, reserve_files
from app.greenlets import RequestGreenlet, is_small
from app.preload import preloaded_model
from app.problems import UNREADABLE
from app.reading import Phase, RequestReader, UnreadableRequestError, decode_chunks
from app.settings import load_settings
from koner.errors import KonerError, exit_on_error

_READ_BYTES = 65_536
# In seconds.
_POLL_INTERVAL = 1.0
_STOP_POLL_INTERVAL = 0.1
# A stopping worker keeps idle connections open, because their clients may be sending a request already.
_STOP_IDLE = 2.0
# After the last response, so that the client can read it before the connection is reset.
_LINGER = 2.0
_PAUSE = 1.0
_WARNING_INTERVAL = 60.0
_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Worker(ThreadWorker):  # type: ignore[misc]
    """A worker that closes its socket as soon as it is asked to stop, and answers earlier connections.

    gunicorn's own worker gives each connection a thread until its request has been read and its response been written.
    When it stops, it keeps its socket open until its last request is done; later connections would wait and finally be
    dropped, whereas a refused connection makes a load balancer try another service at once.
    """

    alive: bool
    nr: int

    @classmethod
    def check_config(cls, cfg: Any, _log: Any) -> None:
        """End the process if options of gunicorn, such as those of GUNICORN_CMD_ARGS, ask for another protocol."""
        with exit_on_error():
            if cfg.is_ssl or cfg.protocol != "http":
                raise KonerError("the service speaks only HTTP/1.1 without TLS; let a proxy in front of it do the rest")

    def run(self) -> None:
        """Serve until the worker is asked to stop or its master has died, and answer what has been received."""
        self._prepare()
        while self.alive and self.is_parent_alive():
            self.notify()
            self.set_accept_enabled(self._can_accept())
            self.wait_for_and_dispatch_events(_POLL_INTERVAL)
            self._enforce_deadlines()
        self.alive = False
        self._close_listeners()
        now = time.monotonic()
        for connection in self._waiting:
            if connection.state is State.READING and connection.phase is Phase.START:
                connection.deadline = min(connection.deadline, now + _STOP_IDLE)
        while self._connections and time.monotonic() < now + self.cfg.graceful_timeout:
            self.notify()
            self.wait_for_and_dispatch_events(_STOP_POLL_INTERVAL)
            self._enforce_deadlines()
        self.tpool.shutdown(wait=False)
        self.poller.close()
        self.method_queue.close()

    def _prepare(self) -> None:
        model = preloaded_model()
        self._settings = settings = model.settings if model else load_settings()
        self._seconds = {
            Phase.START: self.cfg.keepalive,
            Phase.HEAD: settings.head_seconds,
            Phase.BODY: settings.body_seconds,
        }
        self._connections: set[Connection] = set()
        self._waiting = WaitingConnections(self.poller)
        # As much as the requests that may wait for the model.
        self._max_size = settings.queue_requests * settings.max_body
        self._max_connections = reserve_files(settings.connections)
        if self._max_connections < settings.connections:
            self.log.warning(
                "koner: the limit of open files (ulimit -n) allows %d connections per worker, not the %d of "
                "KONER_CONNECTIONS",
                self._max_connections,
                settings.connections,
            )
        self._pause_end = self._next_warning = self._next_check = 0.0
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)

    # Accepting connections.

    def _can_accept(self) -> bool:
        has_room = len(self._connections) < self._max_connections or bool(self._waiting)
        return has_room and time.monotonic() >= self._pause_end

    def accept(self, listener: Any) -> None:
        """Accept a connection. If there are too many, it replaces the one that has waited longest."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                # Such as too many open files.
                self._warn("a connection cannot be accepted: %s", error.strerror)
                self._make_room()
            return
        if len(self._connections) >= self._max_connections:
            self._warn("there are %d connections; those that have waited longest are closed", len(self._connections))
            self._make_room()
        sock.setblocking(False)
        # One byte more than the maximum, so that the application sees that a body is too large.
        reader = RequestReader(self.cfg, client, self._settings.max_body + 1)
        deadline = time.monotonic() + self._settings.head_seconds
        connection = Connection(sock, client, listener.getsockname(), reader, deadline)
        self._connections.add(connection)
        # Most clients send their request at once.
        self._guard(connection, self._read)

    def _make_room(self) -> None:
        """Close the connection that has waited longest; if none waits, accept no more for a moment."""
        if self._waiting:
            self._close(self._waiting.oldest())
        else:
            self._pause_end = time.monotonic() + _PAUSE
            self.set_accept_enabled(False)

    def _close_listeners(self) -> None:
        self.set_accept_enabled(False)
        for listener in self.sockets:
            previous_count = -1
            # Accepting a connection increases the count; if none is pending, the count stays the same.
            while previous_count < len(self._connections) < self._max_connections:
                previous_count = len(self._connections)
                self.accept(listener)
            listener.close()
        self.sockets.clear()

    # Reading requests.

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except BlockingIOError:
            self._wait(connection, selectors.EVENT_READ)
            return
        if not data:
            self._close(connection)
            return
        connection.reader.feed(data)
        self._next_request(connection)

    def _next_request(self, connection: Connection) -> None:
        try:
            request = connection.reader.next_request()
        except UnreadableRequestError as error:
            self._submit(connection, error.request, error)
            return
        if request:
            self._submit(connection, request)
            return
        if connection.reader.take_expectation():
            connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if connection.phase is not connection.reader.phase:
            connection.phase = connection.reader.phase
            connection.deadline = time.monotonic() + self._seconds[connection.phase]
        self._wait(connection, selectors.EVENT_READ)

    def _submit(self, connection: Connection, request: Any, error: UnreadableRequestError | None = None) -> None:
        self._waiting.remove(connection)
        connection.state = State.RUNNING
        answer = partial(self._answer, connection, request, error)
        if not error and is_small(request):
            RequestGreenlet(answer, self.method_queue.defer).switch()
        else:
            self.tpool.submit(answer)

    # Running the application, in a greenlet or in a thread of the pool.

    def _answer(self, connection: Connection, request: Any, error: UnreadableRequestError | None) -> None:
        try:
            try:
                if not error:
                    decode_chunks(request)
            except UnreadableRequestError as chunks_error:
                error = chunks_error
            self._run_application(connection, request, error)
        except Exception:
            self.log.exception("Error handling request")
            connection.output, connection.is_last = memoryview(_FAILURE), True
        # The loop will notice if the connection is broken.
        with suppress(OSError):
            connection.send()
        self.method_queue.defer(self._guard, connection, self._continue)

    def _run_application(self, connection: Connection, request: Any, error: UnreadableRequestError | None) -> None:
        """Run the application, and put its response into the output of the connection."""
        start = datetime.now()
        parts = Parts()
        response, environ = wsgi.create(request, parts, connection.client, connection.server, self.cfg)
        environ.update({"wsgi.multithread": True, "gunicorn.socket": connection.sock})
        if error:
            environ[UNREADABLE] = (error.status, error.detail)
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive:
            response.force_close()
        body = self.wsgi(environ, response.start_response)
        try:
            for part in body:
                response.write(part)
            response.close()
        finally:
            self.log.access(response, request, environ, datetime.now() - start)
            if hasattr(body, "close"):
                body.close()
        connection.output, connection.is_last = memoryview(b"".join(parts)), response.should_close()

    # Writing responses.

    def _continue(self, connection: Connection) -> None:
        """Send the rest of a response; then read the next request, or close the connection."""
        connection.send()
        now = time.monotonic()
        if connection.output:
            if connection.state is State.RUNNING:
                connection.state, connection.deadline = State.WRITING, now + self._settings.send_seconds
            self._wait(connection, selectors.EVENT_WRITE)
        elif connection.is_last:
            connection.sock.shutdown(SHUT_WR)
            connection.state, connection.deadline = State.LINGERING, now + _LINGER
            self._wait(connection, selectors.EVENT_READ)
        else:
            self._waiting.remove(connection)
            connection.state, connection.phase = State.READING, Phase.START
            connection.deadline = now + (self._seconds[Phase.START] if self.alive else _STOP_IDLE)
            self._next_request(connection)

    def _drain(self, connection: Connection) -> None:
        with suppress(BlockingIOError):
            if not connection.sock.recv(_READ_BYTES):
                self._close(connection)

    # Waiting.

    def _guard(self, connection: Connection, action: Callable[[Connection], None], *_: Any) -> None:
        """Do something with a connection. An error closes only this connection."""
        if connection.state is State.CLOSED:
            return
        try:
            action(connection)
        except OSError:
            self._close(connection)
        except Exception:
            self.log.exception("Error on a connection")
            self._close(connection)

    def _wait(self, connection: Connection, event: int) -> None:
        """Wait until a connection can be read or written."""
        actions = {State.READING: self._read, State.WRITING: self._continue, State.LINGERING: self._drain}
        callback = partial(self._guard, connection, actions[connection.state])
        self._waiting.add(connection, event, callback)
        self._waiting.measure(connection, len(connection.reader) + len(connection.output))
        while self._waiting.size > self._max_size and self._waiting:
            self._warn("connections hold %d bytes; those that hold most are closed", self._waiting.size)
            self._close(self._waiting.largest())

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _STOP_POLL_INTERVAL
        for connection in [connection for connection in self._waiting if connection.deadline <= now]:
            if connection.state is State.READING and connection.phase is not Phase.START:
                phase = connection.phase
                detail = f"The {phase.value} of the request did not arrive within {self._seconds[phase]:g} seconds."
                error = connection.reader.fail(408, detail)
                self._submit(connection, error.request, error)
            else:
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._waiting.remove(connection)
        self._waiting.measure(connection, 0)
        connection.state = State.CLOSED
        self._connections.discard(connection)
        connection.sock.close()

    def _warn(self, message: str, *arguments: Any) -> None:
        """Log a warning, unless there was one a moment ago."""
        if time.monotonic() >= self._next_warning:
            self._next_warning = time.monotonic() + _WARNING_INTERVAL
            self.log.warning(f"koner: {message}", *arguments)
