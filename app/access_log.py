"""The access log: one line of JSON on standard output for each request."""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from flask import Flask, Response, current_app, g, has_request_context, request, request_started

from app import metrics

HEADER = "X-Request-Id"
# What can go into any log, header or shell unquoted.
_SANE = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}", re.ASCII)

_logger = logging.getLogger("koner.access")


def init_app(app: Flask) -> None:
    """Logs every request of an app, and gives each an id that its answer bears."""
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    # One line whole, whichever thread it comes from.
    _logger.handlers = [logging.StreamHandler(sys.stdout)]
    request_started.connect(_start, app)
    app.after_request(_log)


def note(texts: Sequence[str], entities: int) -> None:
    """Has the line of the current request, if there is one, tell of the texts and the entities found in them."""
    if has_request_context():
        g.texts, g.entities = texts, entities


def _start(_: Flask, **__: object) -> None:
    given = request.headers.get(HEADER, "")
    g.request_id = given if _SANE.fullmatch(given) else uuid.uuid4().hex


def _log(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    texts: Sequence[str] | None = g.get("texts")
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": g.request_id,
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "latency_ms": round(1000 * metrics.elapsed(), 2),
        "bytes": request.content_length or 0,
        "texts": None if texts is None else len(texts),
        "entities": g.get("entities"),
    }
    if texts is not None and current_app.extensions["koner"].settings.log_text:
        line["text"] = texts
    # In ASCII, so that no character of a text or a path can break the line.
    _logger.info(json.dumps(line))
    return response
