"""`POST /infer`: the entities of one text or of several texts."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import jiter
from flask import Request, Response, current_app
from flask_openapi3 import APIBlueprint, Tag
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel
from werkzeug.exceptions import RequestEntityTooLarge

from app import tagging
from app.problems import MAX_ECHO, Problem, error_responses
from app.schemas import FieldError, InferRequest
from app.serving import current_serving
from koner.inference.answers import build_answers, serialize_answers
from koner.inference.batching import TooManyTokensError
from koner.inference.tagger import TaggedText

_DESCRIPTION = (
    "In the response, `input` is the text exactly as sent, and `word` is its part from `start` to `end`. Entities are "
    "in order and do not overlap. A text may contain any character, including control characters."
)
# Without hyphens and underscores. RFC 8259 gives the charset no meaning, but a body with another one is probably not in
# UTF-8.
_UTF_8_NAMES = frozenset({"utf8", "ascii", "usascii"})


class StrictRequest(Request):
    """A request whose `get_json` accepts only a JSON object in UTF-8, and raises `Problem` for anything else."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> dict[str, Any]:
        """Return the body, parsed by the rules of RFC 8259 and I-JSON: no NaN, lone surrogates or repeated keys.

        The arguments are ignored. flask-openapi3 sets `silent`, by which Flask would treat an invalid body as empty.

        Raises:
            Problem: If the body is not a JSON object or has another type, encoding or compression.
            RequestEntityTooLarge: If the body is longer than the maximum.
        """
        headers = {"Accept": "application/json"}
        if self.mimetype != "application/json":
            raise Problem(415, "The Content-Type of the body must be application/json.", headers=headers)
        charset = self.mimetype_params.get("charset", "utf-8")
        if re.sub("[-_]", "", charset.lower()) not in _UTF_8_NAMES:
            detail = f"The body must be in UTF-8, but its Content-Type has the charset {charset:.{MAX_ECHO}}."
            raise Problem(415, detail, headers=headers)
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Problem(415, "The body must not be compressed.", headers={"Accept-Encoding": "identity"})
        body = self.get_data()
        # Without a Content-Length, werkzeug silently truncates the body at its limit.
        if len(body) == self.max_content_length:
            raise RequestEntityTooLarge
        try:
            value = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
        except ValueError as error:
            if encoding := _recognize_encoding(body):
                raise Problem(400, f"The body must be in UTF-8, but seems to be in {encoding}.") from None
            # A client that cuts a text in the middle of an emoji sends half of a surrogate pair.
            hint = " (half of a surrogate pair?)" if "hex escape" in str(error) else ""
            raise Problem(400, f"The body is not valid JSON: {error!s:.200}{hint}.") from None
        if not isinstance(value, dict):
            raise Problem(422, 'The body must be a JSON object, such as {"text": "..."}.')
        return value


def _recognize_encoding(body: bytes) -> str | None:
    """Return the encoding of a body that is not JSON in UTF-8, or None if it cannot be recognized."""
    # By a byte order mark, or by the zero bytes of the first characters.
    encoding = json.detect_encoding(body)
    if encoding == "utf-8-sig":
        return "UTF-8 with a byte order mark, which JSON must not have"
    if encoding != "utf-8":
        return encoding.upper()
    try:
        body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        with suppress(UnicodeDecodeError):
            body.decode("cp949")
            return "CP949 (EUC-KR)"
    return None


def create_blueprint(request_type: type[InferRequest], response_type: type[BaseModel], max_tokens: int) -> APIBlueprint:
    """Return the route of `POST /infer`.

    Args:
        request_type: The type of requests, with the limits of the service.
        response_type: The type of responses, with the types of the model.
        max_tokens: The maximum number of tokens in a request, for the documentation.
    """
    blueprint = APIBlueprint("infer", __name__, abp_tags=[Tag(name="inference")])

    def infer(body: InferRequest) -> Response:
        """Find the named entities of a text, or of each text of a list."""
        texts = [body.text] if isinstance(body.text, str) else body.text
        entities = [tagged_text.entities for tagged_text in _tag(texts)]
        answers = build_answers(texts, entities, offsets=body.offsets, min_score=body.min_score, labels=body.labels)
        content = answers[0].model_dump_json() if isinstance(body.text, str) else serialize_answers(answers)
        return current_app.response_class(content, mimetype="application/json")

    # flask-openapi3 reads the annotation, to validate bodies and to document them.
    infer.__annotations__["body"] = request_type
    responses: ResponseDict = {200: response_type, **error_responses(400, 401, 408, 413, 415, 422, 503)}
    description = f"{_DESCRIPTION} The texts of a request must have at most {max_tokens} tokens of the model."
    blueprint.post("/infer", operation_id="infer", description=description, responses=responses)(infer)
    return blueprint


def _tag(texts: list[str]) -> list[TaggedText]:
    """Tag the texts of the current request, and record them in the metrics and the access log."""
    try:
        tagged_texts = tagging.tag_texts(texts)
    except TooManyTokensError as error:
        detail = (
            f"text has too many tokens of the model: {error.tokens} in the first {error.texts} of {len(texts)} texts; "
            f"a request must have at most {current_serving().settings.request_tokens}."
        )
        raise Problem(422, detail, [FieldError(pointer="#/text", detail=detail)]) from None
    tagging.record(texts, tagged_texts)
    if feedback := current_serving().feedback:
        feedback.record(texts, tagged_texts)
    return tagged_texts
