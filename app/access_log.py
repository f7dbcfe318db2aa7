"""The access log: one line of JSON on standard output per request."""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from flask import Flask, Response, g, request, request_started

from app import metrics
from app.serving import current_serving

REQUEST_ID_HEADER = "X-Request-Id"
# Characters that need no quoting in a log, a header or a shell.
_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}", re.ASCII)

_logger = logging.getLogger("koner.access")


def init_app(app: Flask) -> None:
    """Log every request of an application, and give each request an id that its response carries."""
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    # A handler writes each line as a whole, whichever thread logs it.
    _logger.handlers = [logging.StreamHandler(sys.stdout)]
    request_started.connect(_assign_request_id, app)
    app.after_request(_log_request)


def record_texts(texts: Sequence[str], entities: int) -> None:
    """Add the texts of the current request and their number of entities to its log line."""
    g.texts, g.entities = texts, entities


def _assign_request_id(_: Flask, **__: object) -> None:
    request_id = request.headers.get(REQUEST_ID_HEADER, "")
    g.request_id = request_id if _VALID_REQUEST_ID.fullmatch(request_id) else uuid.uuid4().hex


def _log_request(response: Response) -> Response:
    response.headers[REQUEST_ID_HEADER] = g.request_id
    texts: Sequence[str] | None = g.get("texts")
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": g.request_id,
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "latency_ms": round(1000 * metrics.request_seconds(), 2),
        "bytes": request.content_length or 0,
        "texts": None if texts is None else len(texts),
        "entities": g.get("entities"),
    }
    if texts is not None and current_serving().settings.log_text:
        line["text"] = texts
    # ASCII only, so that no character of a text or a path can break the line.
    _logger.info(json.dumps(line))
    return response
