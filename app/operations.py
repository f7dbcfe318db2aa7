"""What those who run the service ask it: whether it lives and is ready, what it serves, and how it fares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from flask import Response, current_app
from flask_openapi3 import APIBlueprint
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from app import metrics
from app.problems import Problem, documented
from app.serving import Serving
from koner import __version__

blueprint = APIBlueprint("operations", __name__)

HEADER = "X-Koner-Model"
# Where gunicorn's worker tells whether it was asked to stop.
STOPPING = "KONER_STOPPING"


class Health(BaseModel):
    """How the service is."""

    status: Literal["alive", "ready"]


class ModelVersion(BaseModel):
    """Which model is served."""

    hash: str = Field(description="the hash that DVC gives the model folder")
    pinned: str | None = Field(description="the hash that the lock file pins, if any")
    locked: bool = Field(description="whether the two are the same")
    labels: list[str] = Field(description="the types of entities that it finds")


class Version(BaseModel):
    """What is served, and by what."""

    version: str = Field(description="of koner")
    revision: str | None = Field(description="the Git commit that is checked out, if any")
    model: ModelVersion
    runtime: str = Field(description="what computes the model, and on what")
    metrics: dict[str, Any] | None = Field(
        description="the model's figures on the test part, from metrics/evaluate.json, where the lock file pins both"
    )


@blueprint.get("/healthz", operation_id="healthz", responses={200: Health, **documented()})
def healthz() -> dict[str, str]:
    """Tell whether the service is alive."""
    return {"status": "alive"}


@blueprint.get("/readyz", operation_id="readyz", responses={200: Health, **documented(503)})
def readyz() -> dict[str, str]:
    """Tell whether to send requests here: the model is loaded and has run, and the service isn't about to stop."""
    # The model needs no question: without it there is no application.
    stopping: Callable[[], bool] = current_app.config.get(STOPPING, lambda: False)
    if stopping():
        raise Problem(503, "The service is stopping.")
    return {"status": "ready"}


@blueprint.get("/version", operation_id="version", responses={200: Version, **documented(401)})
def version() -> Response:
    """Tell which model is served, and what is known of it."""
    serving = _serving()
    model = ModelVersion(
        hash=serving.model.hash,
        pinned=serving.model.pinned,
        locked=serving.model.locked,
        labels=list(serving.tagger.labels),
    )
    found = Version(
        version=__version__,
        revision=serving.facts.revision,
        model=model,
        runtime=serving.tagger.runtime.description,
        metrics=serving.facts.metrics,
    )
    return current_app.response_class(found.model_dump_json(), mimetype="application/json")


@blueprint.get(
    "/metrics",
    operation_id="metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented(401)},
)
def metrics_() -> Response:
    """Give the figures of all workers in the text format of Prometheus."""
    metrics.QUEUED.set(_serving().batcher.queued_tokens)
    return current_app.response_class(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)


@blueprint.after_app_request
def name_model(response: Response) -> Response:
    """Names the model on every answer, and says where it isn't the one that the lock file pins."""
    model = _serving().model
    response.headers[HEADER] = model.hash if model.locked else f"{model.hash}; unlocked"
    return response


def _serving() -> Serving:
    serving: Serving = current_app.extensions["koner"]
    return serving
