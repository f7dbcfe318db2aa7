"""What Prometheus gets to read of the service, over all of gunicorn's workers.

Under gunicorn, PROMETHEUS_MULTIPROC_DIR names the folder that the workers share, and must be set before
prometheus_client is imported; without it the figures are those of this process.
"""

from __future__ import annotations

import os
import time

from flask import Flask, Response, g, request, request_started
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from koner.locking import LockedModel

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

REQUESTS = Counter("koner_requests", "Requests answered.", ["method", "path", "status"])
LATENCY = Histogram("koner_request_seconds", "Time from a request's headers to its answer.", ["path"], buckets=_SECONDS)
BATCH_WINDOWS = Histogram("koner_batch_windows", "Windows that ran through the model together.", buckets=_WINDOWS)
BATCH_TOKENS = Histogram("koner_batch_tokens", "Tokens, padding left out, that ran together.", buckets=_TOKENS)
BATCH_SECONDS = Histogram("koner_batch_seconds", "Time that the model took for a batch.", buckets=_SECONDS)
QUEUED = Gauge(
    "koner_queue_tokens", "Tokens waiting for the model, as of each worker's last batch.", multiprocess_mode="livesum"
)
ENTITIES = Counter("koner_entities", "Entities found.", ["type"])
REJECTED = Counter("koner_rejected", "Requests refused with 503 because the queue was full.")
MODEL = Gauge(
    "koner_model_info", "1 for each model in service, by hash.", ["hash", "locked"], multiprocess_mode="livemax"
)


def init_app(app: Flask) -> None:
    """Counts and times every request of an app."""
    request_started.connect(_start, app)
    app.after_request(_observe)


def elapsed() -> float:
    """Seconds since the request came."""
    return time.perf_counter() - float(g.started)


def _start(_: Flask, **__: object) -> None:
    g.started = time.perf_counter()


def _observe(response: Response) -> Response:
    # Never what a client can make up: each new label value is kept for good.
    path = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in _METHODS else "other"
    REQUESTS.labels(method, path, response.status_code).inc()
    LATENCY.labels(path).observe(elapsed())
    return response


def observe_batch(windows: int, tokens: int, seconds: float) -> None:
    """Takes down a batch that ran."""
    BATCH_WINDOWS.observe(windows)
    BATCH_TOKENS.observe(tokens)
    BATCH_SECONDS.observe(seconds)


def show_model(model: LockedModel) -> None:
    """Names the model that this process serves."""
    MODEL.labels(model.hash, str(model.locked).lower()).set(1)


def exposition() -> bytes:
    """All of it in Prometheus' text format."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
