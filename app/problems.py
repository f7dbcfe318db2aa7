"""Errors as RFC 9457 problem documents, with the status that says whose fault it is and one sentence on what to do."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import quote

from flask import Flask, Response, current_app, request
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app.schemas import ONE_TEXT, TEXTS, Fault, ProblemDocument

MEDIA_TYPE = "application/problem+json"
# A body can hold as many faults as it has bytes; more than these help nobody.
_FAULTS_TOLD = 10

_WRONG = {
    "string_type": "is not a string",
    "string_pattern_mismatch": "is blank",
    "string_too_short": "is empty",
    "string_too_long": "is too long",
    "too_long": "has too many parts",
    "too_short": "is an empty list",
    "list_type": "is not a list",
    "literal_error": "is none of those known",
}


class Problem(HTTPException):
    """An answer other than the one asked for; raise it anywhere in a request.

    `detail` is one sentence for the caller, `faults` say what is wrong with which field, `headers` go along.
    """

    def __init__(
        self, status: int, detail: str, faults: Sequence[Fault] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.code = status
        self.faults = list(faults)
        self._headers = headers or {}

    def get_headers(self, *_: Any, **__: Any) -> list[tuple[str, str]]:
        """The headers that go along with the document."""
        return list(self._headers.items())


def init_app(app: Flask) -> None:
    """Makes every error of an app a problem document, those of Flask and the unforeseen ones too."""
    app.register_error_handler(HTTPException, respond)


def respond(error: HTTPException) -> Response:
    """Writes an error as a problem document, with the headers it brings (`Allow`, `Retry-After`)."""
    status = error.code or 500
    faults = getattr(error, "faults", [])
    document = ProblemDocument(title=HTTPStatus(status).phrase, status=status, detail=_detail(error), errors=faults)
    response = current_app.response_class(document.model_dump_json(), status, mimetype=MEDIA_TYPE)
    response.headers.update({name: value for name, value in error.get_headers() if name != "Content-Type"})
    return response


def _detail(error: HTTPException) -> str:
    if isinstance(error, Problem):
        return str(error.description)
    if isinstance(error, MethodNotAllowed):
        return f"{request.path} takes {', '.join(sorted(error.valid_methods or ()))}, not {request.method}."
    match error.code:
        case 404:
            return f"There is nothing at {request.path}; /docs says what there is."
        case 413:
            most = current_app.extensions["koner"].settings.max_body
            return f"The body is larger than {most} bytes, the most taken."
        case 500:
            return "The service failed on this request, and logged why; nothing is wrong with the request itself."
    return str(error.description)


def refuse_invalid(request_type: type[BaseModel], error: ValidationError) -> NoReturn:
    """Raises a body's faults, field by field, as a 422 problem; the fields' descriptions say what is allowed."""
    fields = request_type.model_fields
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False)[:_FAULTS_TOLD]:
        field, *below = map(str, fault["loc"])
        # pydantic names the branch of `text`, too, which is no part of the body.
        path = [field, *(part for part in below if part not in (ONE_TEXT, TEXTS))]
        subject = "it" if len(path) == 1 else field
        name = field + "".join(f"[{part}]" for part in path[1:])
        if fault["type"] == "extra_forbidden":
            told = f"{name:.60} is not a known field; known are {', '.join(fields)}."
        elif fault["type"] == "missing":
            told = f"{name} is missing; it must be {fields[field].description}."
        else:
            told = (
                f"{name} {_WRONG.get(fault['type'], 'is not allowed')}; {subject} must be {fields[field].description}."
            )
        faults.append(Fault(pointer=_pointer(path), detail=told))
    raise Problem(422, faults[0].detail, faults)


def _pointer(path: Sequence[str]) -> str:
    """A place in the body as a JSON pointer in a URI fragment (RFC 6901)."""
    return "#" + "".join("/" + quote(part.replace("~", "~0").replace("/", "~1")) for part in path)


_MEANINGS = {
    400: "The body is not valid JSON in UTF-8.",
    401: "The bearer token is missing or unknown.",
    404: "There is nothing at this path.",
    413: "The body has more bytes than the service takes.",
    415: "The body is not of the type `application/json`.",
    422: "The body is JSON, but not what the schema allows.",
    500: "The service failed; it logged why.",
    503: "The service can't answer now; try again soon.",
}
_HEADERS = {401: ["WWW-Authenticate"], 503: ["Retry-After"]}


def documented(*statuses: int) -> ResponseDict:
    """The error answers of an operation for its `responses=` in the OpenAPI document; any operation may fail by 500."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
            "headers": {name: {"schema": {"type": "string"}} for name in _HEADERS.get(status, ())},
        }
        for status in (*statuses, 500)
    }
