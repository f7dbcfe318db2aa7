"""The endpoints for operators: health, readiness, version and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from flask import Response, current_app
from flask_openapi3 import APIBlueprint
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from app import metrics
from app.problems import Problem, error_responses
from app.serving import current_serving
from koner import __version__

blueprint = APIBlueprint("operations", __name__)

MODEL_HEADER = "X-Koner-Model"
# The key of the application's configuration for a function that returns whether gunicorn's worker is shutting down.
IS_STOPPING = "KONER_STOPPING"


class Health(BaseModel):
    """The state of the service."""

    status: Literal["alive", "ready"]


class ModelVersion(BaseModel):
    """The model in service."""

    hash: str = Field(description="DVC's hash of the model folder")
    pinned: str | None = Field(description="the hash that the lock file pins, if it pins one")
    locked: bool = Field(description="whether `hash` and `pinned` are equal")
    labels: list[str] = Field(description="the types of entities that the model predicts")


class Version(BaseModel):
    """The versions of the service and of its model."""

    version: str = Field(description="the version of koner")
    revision: str | None = Field(description="the Git commit of the model, if it is known")
    model: ModelVersion
    runtime: str = Field(description="the runtime and the device of the model")
    refusal: str | None = Field(
        description="why the model that was to replace this one at the last reload was refused, if it was"
    )
    metrics: dict[str, Any] | None = Field(
        description="the metrics of the model on the test part, from metrics/evaluate.json, if the lock file pins both"
    )


@blueprint.get("/healthz", operation_id="healthz", responses={200: Health, **error_responses()})
def healthz() -> dict[str, str]:
    """Report that the process is alive."""
    return {"status": "alive"}


@blueprint.get("/readyz", operation_id="readyz", responses={200: Health, **error_responses(503)})
def readyz() -> dict[str, str]:
    """Report whether the service accepts requests: its model has been loaded and run, and it is not shutting down."""
    # The application is only created after the model has run, so the model needs no check.
    is_stopping: Callable[[], bool] = current_app.config.get(IS_STOPPING, lambda: False)
    if is_stopping():
        raise Problem(503, "The service is shutting down.")
    return {"status": "ready"}


@blueprint.get("/version", operation_id="version", responses={200: Version, **error_responses(401)})
def version() -> Response:
    """Report which model is in service, with its metrics."""
    serving = current_serving()
    model = ModelVersion(
        hash=serving.model.hash,
        pinned=serving.model.pinned_hash,
        locked=serving.model.is_locked,
        labels=list(serving.tagger.label_set.types),
    )
    content = Version(
        version=__version__,
        revision=serving.facts.revision,
        model=model,
        runtime=serving.tagger.runtime.description,
        refusal=serving.refusal,
        metrics=serving.facts.metrics,
    )
    return current_app.response_class(content.model_dump_json(), mimetype="application/json")


@blueprint.get(
    "/metrics",
    operation_id="metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **error_responses(401)},
)
def report_metrics() -> Response:
    """Report the metrics of all workers in the text format of Prometheus."""
    metrics.QUEUED_TOKENS.set(current_serving().batcher.queued_tokens)
    return current_app.response_class(metrics.render(), content_type=CONTENT_TYPE_LATEST)


@blueprint.after_app_request
def name_model(response: Response) -> Response:
    """Name the model in a header of every response, with `unlocked` if it is not the pinned one."""
    model = current_serving().model
    response.headers[MODEL_HEADER] = model.hash if model.is_locked else f"{model.hash}; unlocked"
    return response
