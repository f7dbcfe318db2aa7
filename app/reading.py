"""Requests that are read from the bytes of a connection as they arrive, without ever waiting for more bytes.

gunicorn's parser reads every head and decodes every body in chunks, so that its checks hold. This module only finds out
when a request is complete.
"""

from __future__ import annotations

import io
import re
from enum import Enum
from typing import Any

from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import (
    ExpectationFailed,
    ForbiddenProxyRequest,
    InvalidChunkSize,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

MAX_HEAD = 65_536
"""The maximum size of the head of a request (request line and headers) in bytes."""

_MAX_LINE = 8190  # of a chunk's size, in bytes
# The parser copies the rest of a piece for each chunk in it.
_PIECE = 8192
_MAX_DETAIL = 200
_STATUSES = {
    LimitRequestLine: 414,
    LimitRequestHeaders: 431,
    ExpectationFailed: 417,
    UnsupportedTransferCoding: 501,
    ForbiddenProxyRequest: 403,
}
# Answers to a request without a readable head are answers to this request.
_STAND_IN = b"UNREADABLE / HTTP/1.1\r\nHost: unknown\r\nConnection: close\r\n\r\n"


class Phase(Enum):
    """The part of a request that a reader waits for."""

    START = "start"
    HEAD = "head"
    BODY = "body"


class UnreadableRequestError(Exception):
    """A request cannot be read; the connection must be closed after the answer, because its next request is unknown.

    Args:
        status: The HTTP status of the answer.
        detail: One sentence for the client.
        request: The request, as far as it was read.
    """

    def __init__(self, status: int, detail: str, request: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.request = request
        request.body = io.BytesIO()
        request.force_close()


class RequestReader:
    """The requests of a connection.

    Args:
        cfg: gunicorn's configuration.
        client: The address of the client.
        max_body: The size in bytes up to which a body is read. A request with a larger body is complete without it.
    """

    def __init__(self, cfg: Any, client: Any, max_body: int) -> None:
        self._cfg = cfg
        self._client = client
        self._max_body = max_body
        self._buffer = bytearray()
        self._count = 0
        # Whether the buffer may have a head: parsing it again after every byte would take too long.
        self._may_have_head = False
        # The request whose body is not complete, and the body's length or chunks.
        self._request: Any = None
        self._body: _Chunks | int = 0

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def phase(self) -> Phase:
        """What the reader waits for."""
        if self._request:
            return Phase.BODY
        return Phase.HEAD if self._buffer else Phase.START

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        self._buffer += data
        self._may_have_head |= b"\n" in data or len(self._buffer) > MAX_HEAD

    def take_expectation(self) -> bool:
        """Return whether the client waits for "100 Continue" before it sends the body; True only once per request."""
        if not self._request:
            return False
        expected = bool(self._request._expected_100_continue)
        self._request._expected_100_continue = False
        return expected

    def next_request(self) -> Any:
        """Return the next request, as gunicorn's parser gives it, or None if it is not complete.

        `decode_chunks` must be called before its body is read.

        Raises:
            UnreadableRequestError: If the bytes are not a request.
        """
        if not self._request and not self._read_head():
            return None
        end = self._find_body_end()
        if end is None:
            return None
        request, self._request = self._request, None
        request._expected_100_continue = False
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._may_have_head = b"\n" in self._buffer
        if isinstance(self._body, int):
            request.body = io.BytesIO(data)
        else:
            pieces = (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
            request.body = Body(ChunkedReader(request, IterUnreader(pieces)))
        return request

    def fail(self, status: int, detail: str) -> UnreadableRequestError:
        """Return an error for the request that is not complete."""
        return UnreadableRequestError(status, detail, self._request or self._stand_in())

    def _stand_in(self) -> Any:
        return Request(self._cfg, IterUnreader([_STAND_IN]), self._client)

    def _read_head(self) -> bool:
        if not self._may_have_head:
            return False
        self._may_have_head = False
        data = bytes(self._buffer[:MAX_HEAD])
        unreader = IterUnreader([data])
        try:
            self._request = Request(self._cfg, unreader, self._client, self._count + 1)
        except (NoMoreData, StopIteration):
            if len(self._buffer) > MAX_HEAD:
                raise self.fail(431, f"The head of the request is larger than {MAX_HEAD} bytes.") from None
            return False
        except ParseException as error:
            raise self.fail(_status(error), _detail(error)) from None
        self._count += 1
        del self._buffer[: len(data) - len(unreader.take_buffered())]
        reader = self._request.body.reader
        self._body = _Chunks() if isinstance(reader, ChunkedReader) else reader.length
        return True

    def _find_body_end(self) -> int | None:
        """Return the size of the body on the wire if it is complete; 0 if it is too large and therefore not read."""
        end: int | None
        if isinstance(self._body, int):
            length, end = self._body, self._body if len(self._buffer) >= self._body else None
        else:
            try:
                end = self._body.find_end(self._buffer)
            except ParseException as error:
                raise self.fail(_status(error), _detail(error)) from None
            length = self._body.length
            max_size = 2 * self._max_body + MAX_HEAD
            if end is None and len(self._buffer) > max_size:
                raise self.fail(413, f"The body, with the sizes of its chunks, is larger than {max_size} bytes.")
        if length > self._max_body:
            _set_length(self._request, length)
            self._body = length
            self._request.force_close()
            return 0
        return end


class _Chunks:
    """The chunks of a body: finds its end.

    Attributes:
        length: The sum of the sizes of the chunks so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._position = 0
        self._is_last = False

    def find_end(self, buffer: bytearray) -> int | None:
        """Return the end of the body in a buffer that has its start, or None if the body is not complete.

        Raises:
            InvalidChunkSize: If there is no size where one must be. gunicorn's parser checks everything else.
        """
        while (line_end := buffer.find(b"\r\n", self._position)) >= 0:
            line = buffer[self._position : line_end]
            self._position = line_end + len(b"\r\n")
            if self._is_last:
                # A trailer; the empty line is the end.
                if not line:
                    return self._position
                continue
            size = re.match(rb"[0-9A-Fa-f]+", line)
            if not size:
                raise InvalidChunkSize(bytes(line))
            self._is_last = not int(size[0], 16)
            if not self._is_last:
                self.length += int(size[0], 16)
                self._position += int(size[0], 16) + len(b"\r\n")
        if len(buffer) - self._position > _MAX_LINE:
            raise InvalidChunkSize(bytes(buffer[self._position :]))
        return None


def decode_chunks(request: Any) -> None:
    """Decode the body of a complete request that was sent in chunks; then it looks as if it had a Content-Length.

    Raises:
        UnreadableRequestError: If the chunks are not valid.
    """
    if not isinstance(request.body, Body):
        return
    try:
        body = request.body.read()
    except (ParseException, NoMoreData) as error:
        raise UnreadableRequestError(_status(error), _detail(error), request) from None
    request.body = io.BytesIO(body)
    _set_length(request, len(body))


def _set_length(request: Any, length: int) -> None:
    framing = ("CONTENT-LENGTH", "TRANSFER-ENCODING")
    request.headers = [header for header in request.headers if header[0] not in framing]
    request.headers.append(("CONTENT-LENGTH", str(length)))


def _status(error: Exception) -> int:
    return _STATUSES.get(type(error), 400)


def _detail(error: Exception) -> str:
    reason = "the body ends too early" if isinstance(error, NoMoreData) else str(error)
    return f"The request cannot be read: {reason:.{_MAX_DETAIL}}."
