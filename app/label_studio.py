"""Label Studio's protocol of ML backends (https://labelstud.io/guide/ml_create): predictions for its tasks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, ConfigDict, Field

from app import tagging
from app.problems import MAX_ECHO, Problem, error_responses
from app.schemas import FieldError
from app.serving import current_serving
from koner.annotation.label_studio import (
    Control,
    describe_difference,
    name_version,
    parse_label_config,
    prediction,
)
from koner.console import escape_controls
from koner.errors import KonerError
from koner.inference.batching import TooManyTokensError
from koner.inference.tagger import TaggedText

_logger = logging.getLogger("gunicorn.error")
# The longest part of a labelling config that an error or the log repeats.
_MAX_SENTENCE = 500
_ERRORS = (400, 401, 408, 413, 415, 422)
_CONFIG = (
    '<View><Labels name="label" toName="text"><Label value="PS"/></Labels><Text name="text" value="$text"/></View>'
)

blueprint = APIBlueprint("label_studio", __name__, abp_tags=[Tag(name="Label Studio", description=__doc__ or "")])


class _Request(BaseModel):
    """A request of Label Studio, which sends more fields than are needed here."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class SetupRequest(_Request):
    """The project that the service is connected to."""

    model_config = ConfigDict(json_schema_extra={"example": {"schema": _CONFIG}})

    label_config: str = Field(alias="schema", description="the labelling config of the project, as XML")


class PredictRequest(_Request):
    """Tasks to predict."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"tasks": [{"id": 1, "data": {"text": "서울"}}], "label_config": _CONFIG}}
    )

    tasks: list[dict[str, Any]] = Field(description="a list of tasks, which are objects with `data`")
    label_config: str = Field(description="the labelling config of the project, as XML")


class WebhookRequest(_Request):
    """An event of a project."""

    action: str = Field(default="", description="the name of the event")


class BackendHealth(BaseModel):
    """The state of the service, as Label Studio checks it."""

    status: Literal["UP"] = "UP"
    model_class: Literal["koner"] = "koner"


class ModelName(BaseModel):
    """The model in service."""

    model_version: str = Field(description="the name by which Label Studio tells the predictions of models apart")


class Prediction(ModelName):
    """The prediction for a task."""

    score: float | None = Field(description="the lowest score of an entity, if there is an entity")
    result: list[dict[str, Any]] = Field(description="the entities as regions of Label Studio, in code points")


class Predictions(BaseModel):
    """The predictions for the tasks, in the same order."""

    results: list[Prediction]


class Accepted(BaseModel):
    """An event has arrived."""

    status: Literal["ignored"] = "ignored"


@blueprint.get("/health", operation_id="health", responses={200: BackendHealth, **error_responses(401)})
def health() -> dict[str, Any]:
    """Report to Label Studio that the service runs."""
    return BackendHealth().model_dump()


@blueprint.post("/setup", operation_id="setup", responses={200: ModelName, **error_responses(*_ERRORS)})
def setup(body: SetupRequest) -> dict[str, Any]:
    """Check the labelling config of a project, and name the model."""
    _read_control(body.label_config, "schema")
    return ModelName(model_version=_model_version()).model_dump()


@blueprint.post("/predict", operation_id="predict", responses={200: Predictions, **error_responses(*_ERRORS, 503)})
def predict(body: PredictRequest) -> dict[str, Any]:
    """Predict the entities of tasks, by the labelling config of their project.

    Labels that the labelling config does not have are left out.
    """
    control = _read_control(body.label_config, "label_config")
    texts = [_text(task, position, control.field) for position, task in enumerate(body.tasks)]
    tagged_texts = _tag_in_parts(texts)
    tagging.record(texts, tagged_texts)
    version = _model_version()
    results = [
        prediction(text, tagged.entities, model_version=version, control=control)
        for text, tagged in zip(texts, tagged_texts, strict=True)
    ]
    return {"results": results}


@blueprint.post(
    "/webhook", operation_id="webhook", responses={200: Accepted, **error_responses(400, 408, 413, 415, 422)}
)
def webhook(body: WebhookRequest) -> dict[str, Any]:
    """Accept an event of a project, such as a new annotation, and do nothing: the service does not train."""
    return Accepted().model_dump()


REQUEST_TYPES = (SetupRequest, PredictRequest, WebhookRequest)


def _model_version() -> str:
    return name_version(current_serving().model.hash)


def _read_control(config: str, field: str) -> Control:
    """Return the tags of a labelling config; log how its labels differ from the model's.

    Raises:
        Problem: If the labelling config is not valid.
    """
    try:
        control = _parse(config)
    except KonerError as error:
        # Label Studio shows its users the status alone, and refers them to this log.
        detail = f"{field}: {error!s:.{_MAX_SENTENCE}}."
        _warn(detail)
        raise Problem(422, detail, [FieldError(pointer=f"#/{field}", detail=detail)]) from None
    if difference := describe_difference(control, current_serving().tagger.label_set):
        _warn_once(f"{difference}."[:_MAX_SENTENCE])
    return control


@lru_cache(maxsize=16)
def _parse(config: str) -> Control:
    return parse_label_config(config)


def _warn(sentence: str) -> None:
    _logger.warning("Label Studio: %s", escape_controls(sentence))


# Label Studio sends the same labelling config with every request.
_warn_once = lru_cache(maxsize=256)(_warn)


def _text(task: dict[str, Any], position: int, field: str) -> str:
    """Return the text of a task.

    Raises:
        Problem: If it has none, or one that is too long.
    """
    name = f"tasks[{position}]"
    if isinstance(task.get("id"), int):
        name += f" (id {task['id']})"
    data = task.get("data")
    text = data.get(field) if isinstance(data, dict) else None
    max_text = current_serving().settings.max_text
    if not isinstance(text, str):
        detail = f"{name} has no text in data.{field:.{MAX_ECHO}}, the field that the labelling config names."
    elif len(text) > max_text:
        detail = f"{name} has a text of {len(text)} code points; a text must have at most {max_text}."
    else:
        return text
    raise _invalid_task(position, detail)


def _invalid_task(position: int, detail: str) -> Problem:
    _warn(detail)
    return Problem(422, detail, [FieldError(pointer=f"#/tasks/{position}", detail=detail)])


def _tag_in_parts(texts: Sequence[str]) -> list[TaggedText]:
    """Tag any number of texts, as many at a time as a request may have: Label Studio sends all tasks at once."""
    settings = current_serving().settings
    tagged_texts: list[TaggedText] = []
    while (position := len(tagged_texts)) < len(texts):
        part = texts[position : position + settings.max_texts]
        try:
            tagged_texts += tagging.tag_texts(part)
        except TooManyTokensError as error:
            if error.texts == 1:
                detail = (
                    f"tasks[{position}] has a text of {error.tokens} tokens of the model; "
                    f"a text must have at most {settings.request_tokens}."
                )
                raise _invalid_task(position, detail) from None
            # All texts that were encoded but the last fit.
            tagged_texts += tagging.tag_texts(part[: error.texts - 1])
    return tagged_texts
