"""The texts of a request, tagged by the batcher that all requests share."""

from __future__ import annotations

from collections.abc import Sequence

from flask import abort, current_app

from app import access_log, metrics
from app.clients import watch_client
from app.problems import Problem
from app.serving import current_serving
from koner.inference.batching import BatcherClosedError, CallerGoneError, QueueFullError
from koner.inference.tagger import TaggedText

_RETRY_SECONDS = 1
# Nobody reads the response. The status, which nginx uses too, is for the log and the metrics.
_CLIENT_GONE = 499


def tag_texts(texts: Sequence[str]) -> list[TaggedText]:
    """Tag texts of the current request.

    Raises:
        TooManyTokensError: If they have more tokens than a request may have.
        Problem: If the queue is full or the service is shutting down.
    """
    try:
        return current_serving().batcher.tag(texts, is_gone=watch_client())
    except CallerGoneError:
        abort(current_app.response_class(status=_CLIENT_GONE))
    except QueueFullError:
        metrics.REJECTED_REQUESTS.inc()
        raise _unavailable("Too many requests are waiting; try again soon.") from None
    except BatcherClosedError:
        raise _unavailable("The service is shutting down; try again soon.") from None


def record(texts: Sequence[str], tagged_texts: Sequence[TaggedText]) -> None:
    """Record the texts of the current request and their entities in the metrics and the access log."""
    metrics.observe_texts(texts, tagged_texts)
    access_log.record_texts(texts, sum(len(tagged_text.entities) for tagged_text in tagged_texts))


def _unavailable(detail: str) -> Problem:
    return Problem(503, detail, headers={"Retry-After": str(_RETRY_SECONDS)})
