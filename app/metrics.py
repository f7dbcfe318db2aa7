"""The metrics of the service for Prometheus, summed over gunicorn's workers.

Under gunicorn, PROMETHEUS_MULTIPROC_DIR names the folder that the workers share. It must be set before
prometheus_client is imported. Without it, the metrics are those of this process.
"""

from __future__ import annotations

import os
import time
from collections import Counter as LabelCounts
from collections.abc import Sequence

from flask import Flask, Response, g, request, request_started
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app import metrics_files
from koner.inference.tagger import TaggedText
from koner.release.locking import ModelFolder

metrics_files.install()

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WINDOWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SCORE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1)
_TOKENS_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

REQUESTS = Counter("koner_requests", "Requests answered.", ["method", "path", "status"])
LATENCY = Histogram(
    "koner_request_seconds", "Time from a complete request to its response.", ["path"], buckets=_SECONDS_BUCKETS
)
BATCH_WINDOWS = Histogram("koner_batch_windows", "Windows in a batch.", buckets=_WINDOWS_BUCKETS)
BATCH_TOKENS = Histogram("koner_batch_tokens", "Tokens in a batch, without padding.", buckets=_TOKENS_BUCKETS)
BATCH_SECONDS = Histogram("koner_batch_seconds", "Time of the model for a batch.", buckets=_SECONDS_BUCKETS)
QUEUED_TOKENS = Gauge(
    "koner_queue_tokens",
    "Tokens that wait for the model, at the time of each worker's last batch.",
    multiprocess_mode="livesum",
)
ENTITIES = Counter("koner_entities", "Entities found, by type.", ["type"])
TEXT_SCORES = Histogram(
    "koner_text_score",
    "Scores of the texts: the geometric mean of the probabilities of a text's tags.",
    buckets=_SCORE_BUCKETS,
)
CHARACTERS = Counter("koner_characters", "Characters (code points) of the texts.")
TOKENS = Counter("koner_tokens", "Tokens of the texts, without special tokens.")
UNKNOWN_TOKENS = Counter("koner_unknown_tokens", "Tokens of the texts that the vocabulary lacks.")
REJECTED_REQUESTS = Counter("koner_rejected", "Requests rejected with 503 because the queue was full.")
MODEL = Gauge(
    "koner_model_info", "1 for each model in service, by hash.", ["hash", "locked"], multiprocess_mode="livemax"
)
RELOAD_REFUSED = Gauge(
    "koner_reload_refused",
    "1 if the last reload failed, so that the model from before is in service.",
    multiprocess_mode="livemax",
)


def init_app(app: Flask) -> None:
    """Count and time every request of an application."""
    request_started.connect(_start_timer, app)
    app.after_request(_observe_request)


def request_seconds() -> float:
    """Return the seconds since the current request arrived."""
    return time.perf_counter() - float(g.start_time)


def _start_timer(_: Flask, **__: object) -> None:
    g.start_time = time.perf_counter()


def _observe_request(response: Response) -> Response:
    # Label values must not come from clients, because Prometheus keeps every new value for ever.
    path = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in _METHODS else "other"
    REQUESTS.labels(method, path, response.status_code).inc()
    LATENCY.labels(path).observe(request_seconds())
    return response


def observe_batch(windows: int, tokens: int, seconds: float) -> None:
    """Record a batch that has run.

    Args:
        windows: The number of windows in the batch.
        tokens: The number of tokens in the batch, without padding.
        seconds: The time of the model.
    """
    BATCH_WINDOWS.observe(windows)
    BATCH_TOKENS.observe(tokens)
    BATCH_SECONDS.observe(seconds)


def observe_texts(texts: Sequence[str], tagged_texts: Sequence[TaggedText]) -> None:
    """Record texts that have been tagged: their entities, and what else `koner drift` compares."""
    for tagged in tagged_texts:
        TEXT_SCORES.observe(tagged.score)
    labels = LabelCounts(entity.label for tagged in tagged_texts for entity in tagged.entities)
    for label, count in labels.items():
        ENTITIES.labels(label).inc(count)
    CHARACTERS.inc(sum(map(len, texts)))
    TOKENS.inc(sum(len(tagged.token_tags) for tagged in tagged_texts))


def show_model(model: ModelFolder, is_reload_refused: bool = False) -> None:
    """Record the model that this process serves, and whether the model that was to replace it was refused."""
    MODEL.labels(model.hash, str(model.is_locked).lower()).set(1)
    RELOAD_REFUSED.set(is_reload_refused)


def render() -> bytes:
    """Return all metrics in the text format of Prometheus."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
