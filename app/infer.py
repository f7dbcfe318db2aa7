"""`POST /infer`: text in, its entities out."""

from __future__ import annotations

import json
from typing import Any

import jiter
from flask import Request, Response, current_app
from flask_openapi3 import APIBlueprint, Tag
from flask_openapi3.types import ResponseDict
from werkzeug.exceptions import RequestEntityTooLarge

from app.problems import Problem, documented
from app.schemas import InferRequest, InferResponse
from app.serving import Serving
from koner.answers import answer
from koner.batching import BatcherClosed, QueueFull

_DESCRIPTION = (
    "The answer's `input` is the text exactly as sent, and `word` its part from `start` up to `end`. Entities stand in "
    "order and don't overlap. Any character may be in a text, control characters too."
)
_RETRY_SECONDS = 1


class StrictRequest(Request):
    """A request of which `get_json` takes a JSON object in UTF-8 only, and raises `Problem` for anything else."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> dict[str, Any]:
        """Reads the body as RFC 8259 and I-JSON have it: no NaN, lone surrogates or repeated keys.

        Not `silent` even if asked: flask-openapi3 does ask, and would take a fault for an empty body.
        """
        if self.mimetype != "application/json" or self.mimetype_params.get("charset", "utf-8").lower() != "utf-8":
            headers = {"Accept": "application/json"}
            raise Problem(415, "The body must be of Content-Type application/json, in UTF-8.", headers=headers)
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Problem(415, "The body must not be compressed.", headers={"Accept-Encoding": "identity"})
        body = self.get_data()
        # Where the length wasn't told beforehand, werkzeug cuts the body at its limit without a word.
        if len(body) == self.max_content_length:
            raise RequestEntityTooLarge
        try:
            found = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
        except ValueError as error:
            # What a text cut within an emoji comes as.
            hint = " (half of a surrogate pair?)" if "hex escape" in str(error) else ""
            raise Problem(400, f"The body is not valid JSON: {error!s:.200}{hint}.") from None
        if not isinstance(found, dict):
            raise Problem(422, 'The body must be a JSON object, such as {"text": "..."}.')
        return found


def create_blueprint(request_type: type[InferRequest]) -> APIBlueprint:
    """The route, for requests of a type with a service's limits."""
    blueprint = APIBlueprint("infer", __name__, abp_tags=[Tag(name="inference")])

    def infer(body: InferRequest) -> Response:
        """Find the named entities of a text, or of each text of a list."""
        texts = [body.text] if isinstance(body.text, str) else body.text
        serving: Serving = current_app.extensions["koner"]
        try:
            tagged = serving.batcher.tag(texts)
        except QueueFull:
            raise _busy("Too much text is waiting already; try again soon.") from None
        except BatcherClosed:
            raise _busy("The service is stopping; try again soon.") from None
        answers = [
            answer(text, found, offsets=body.offsets, min_score=body.min_score, labels=body.labels)
            for text, found in zip(texts, tagged, strict=True)
        ]
        said = json.dumps(
            answers[0] if isinstance(body.text, str) else answers, ensure_ascii=False, separators=(",", ":")
        )
        return current_app.response_class(said, mimetype="application/json")

    # What is checked and documented is the type with the limits.
    infer.__annotations__["body"] = request_type
    responses: ResponseDict = {200: InferResponse, **documented(400, 401, 413, 415, 422, 503)}
    blueprint.post("/infer", operation_id="infer", description=_DESCRIPTION, responses=responses)(infer)
    return blueprint


def _busy(detail: str) -> Problem:
    return Problem(503, detail, headers={"Retry-After": str(_RETRY_SECONDS)})
