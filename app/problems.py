"""Errors as problem documents (RFC 9457): a status, and one sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from itertools import takewhile
from typing import Any, NoReturn
from urllib.parse import quote

from flask import Flask, Response, current_app, request
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app.schemas import ONE_TEXT, TEXTS, FieldError, ProblemDocument
from app.serving import current_serving

MEDIA_TYPE = "application/problem+json"
# The key of the WSGI environment for the status and the detail of an error that the server found in the request.
UNREADABLE = "koner.unreadable"
MAX_ECHO = 100
"""The maximum number of characters of a request that an answer repeats in one place."""

# A body can have as many errors as it has bytes; more than these do not help anybody.
_MAX_FIELD_ERRORS = 10

# By pydantic's types of errors.
_MESSAGES = {
    "string_type": "is not a string",
    "string_pattern_mismatch": "is blank",
    "string_too_short": "is empty",
    "string_too_long": "is too long",
    "too_long": "has too many items",
    "too_short": "is an empty list",
    "list_type": "is not a list",
    "literal_error": "is not one of the allowed values",
}


class Problem(HTTPException):
    """An error response, which may be raised anywhere in a request.

    Args:
        status: The HTTP status.
        detail: One sentence for the client.
        errors: The invalid fields of the body.
        headers: Headers of the response.
    """

    def __init__(
        self, status: int, detail: str, errors: Sequence[FieldError] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.code = status
        self.errors = list(errors)
        self._headers = headers or {}

    def get_headers(self, *_: Any, **__: Any) -> list[tuple[str, str]]:
        """Return the headers of the response."""
        return list(self._headers.items())


def init_app(app: Flask) -> None:
    """Return every error of an application as a problem document, including Flask's own and unexpected errors."""
    app.register_error_handler(HTTPException, to_response)
    app.before_request(_raise_unreadable)


def _raise_unreadable() -> None:
    """Answer a request that the server could not read: as any other request, with an id and a line in the log."""
    if error := request.environ.get(UNREADABLE):
        raise Problem(*error)


def to_response(error: HTTPException) -> Response:
    """Return an error as a problem document, with the headers of the error (such as `Allow` and `Retry-After`)."""
    status = error.code or 500
    errors = error.errors if isinstance(error, Problem) else []
    document = ProblemDocument(title=HTTPStatus(status).phrase, status=status, detail=_detail(error), errors=errors)
    response = current_app.response_class(document.model_dump_json(), status, mimetype=MEDIA_TYPE)
    response.headers.update({name: value for name, value in error.get_headers() if name != "Content-Type"})
    return response


def _detail(error: HTTPException) -> str:
    if isinstance(error, Problem):
        return str(error.description)
    path = f"{request.path:.{MAX_ECHO}}"
    prefix, max_body = current_serving().settings.prefix, current_serving().settings.max_body
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        return f"{path} does not allow the method {request.method:.{MAX_ECHO}}; it allows {methods}."
    match error.code:
        case 404:
            return f"There is no resource at {path}; {prefix}/docs lists the endpoints."
        case 413:
            return f"The body is larger than the maximum of {max_body} bytes."
        case 500:
            return "The service failed to process this request; its log has the cause."
    return str(error.description)


def raise_invalid_fields(request_types: Iterable[type[BaseModel]], error: ValidationError) -> NoReturn:
    """Raise the validation errors of a body as one problem.

    Args:
        request_types: The types of bodies; the descriptions of their fields say which values are allowed.
        error: The error that pydantic raised, whose title is the name of the type.

    Raises:
        Problem: Always, with status 422 and at most ten errors.
    """
    request_type = next(type_ for type_ in request_types if type_.__name__ == error.title)
    details = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_FIELD_ERRORS]
    errors = [_field_error(request_type, tuple(map(str, detail["loc"])), detail["type"]) for detail in details]
    raise Problem(422, errors[0].detail, errors)


def _field_error(request_type: type[BaseModel], location: Sequence[str], error_type: str) -> FieldError:
    fields = {field.alias or name: field for name, field in request_type.model_fields.items()}
    field, *keys = location
    # pydantic's location also names the branch of the union type of `text`, which is not in the body.
    keys = [key for key in keys if key not in (ONE_TEXT, TEXTS)]
    name = field + "".join(f"[{key}]" for key in keys)
    if error_type == "extra_forbidden":
        detail = f"{name:.{MAX_ECHO}} is not a known field; the fields are {', '.join(fields)}."
    elif error_type == "missing":
        detail = f"{name} is missing; it must be {fields[field].description}."
    else:
        message = _MESSAGES.get(error_type, "is not valid")
        subject = field if keys else "it"
        detail = f"{name} {message}; {subject} must be {fields[field].description}."
    return FieldError(pointer=_json_pointer([field, *keys]), detail=detail)


def _json_pointer(keys: Sequence[str]) -> str:
    """Return a place in the body as a JSON pointer in a URI fragment (RFC 6901), without a key that is too long."""
    keys = [*takewhile(lambda key: len(key) <= MAX_ECHO, keys)]
    return "#" + "".join("/" + quote(key.replace("~", "~0").replace("/", "~1")) for key in keys)


_DESCRIPTIONS = {
    400: "The body is not valid JSON in UTF-8.",
    401: "The token is missing or not valid.",
    404: "There is no resource at this path.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not of the type `application/json`.",
    422: "The body is valid JSON, but does not match the schema.",
    500: "The service failed to process the request, and logged the cause.",
    503: "The service cannot process the request now; try again soon.",
}
_HEADERS = {401: ["WWW-Authenticate"], 503: ["Retry-After"]}


def error_responses(*statuses: int) -> ResponseDict:
    """Return the error responses of an operation for the OpenAPI document, including 500."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
            "headers": {name: {"schema": {"type": "string"}} for name in _HEADERS.get(status, ())},
        }
        for status in (*statuses, 500)
    }
