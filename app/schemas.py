"""The types of requests, responses and problem documents; they validate, serialize and document the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, create_model

from koner.inference.answers import Answer, AnswerEntity
from koner.inference.offsets import OffsetUnit
from koner.labels.styles import LabelStyle

# The branches of the union type of `text`, as pydantic names them in the location of an error.
ONE_TEXT, TEXTS = "one text", "texts"

# Types that the description of a field lists.
_MOST_LISTED = 20
_EXAMPLE = "이순신은 1545년 서울에서 태어났다."


class InferRequest(BaseModel):
    """A request without limits; `build_request_type` adds the limits of a service."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"example": {"text": _EXAMPLE}}
    )

    text: str | list[str] = Field(description="a text or a list of texts")
    offsets: OffsetUnit = Field(
        default="codepoint",
        description="'codepoint' (as in Python) or 'utf16' (as in JavaScript), the unit of `start` and `end`",
    )
    min_score: float = Field(
        default=0.0, ge=0, le=1, description="a number from 0 to 1, the minimum score of an entity"
    )
    labels: list[str] | None = Field(default=None, description="a list of types of entities")


def build_request_type(max_text: int, max_texts: int, styles: Sequence[LabelStyle]) -> type[InferRequest]:
    """Return the type of requests of a service.

    Args:
        max_text: The maximum length of a text, in code points.
        max_texts: The maximum number of texts.
        styles: The types of the model.
    """
    labels = [style.label for style in styles]
    # The next-line character is white space to pydantic, but not to JSON Schema, whose patterns follow ECMA-262.
    text = Annotated[str, Field(min_length=1, max_length=max_text, pattern=r"[^\s\u0085]")]
    one = Annotated[text, Tag(ONE_TEXT)]
    many = Annotated[list[text], Field(min_length=1, max_length=max_texts), Tag(TEXTS)]
    # With a discriminator, pydantic reports no errors of the other branch.
    either = Annotated[one | many, Discriminator(lambda value: TEXTS if isinstance(value, list) else ONE_TEXT)]
    return create_model(
        InferRequest.__name__,
        __base__=InferRequest,
        __doc__="One text or a list of texts, and options for the entities.",
        text=(
            either,
            Field(
                description=f"a text of 1 to {max_text} code points that is not blank, or a list of 1 to {max_texts} "
                "such texts",
            ),
        ),
        labels=(
            cast(Any, list[_literal(labels)]),  # type: ignore[misc]
            Field(
                # All types. As a default, the list would be copied for each request, in time that grows with its
                # length.
                default_factory=lambda: None,
                min_length=1,
                max_length=len(labels),
                description=_describe_types(styles),
                json_schema_extra={"default": [*labels]},
            ),
        ),
    )


def _literal(labels: Sequence[str]) -> Any:
    return Literal[tuple(labels)]


def _describe_types(styles: Sequence[LabelStyle]) -> str:
    *others, last = [style.description for style in styles[:_MOST_LISTED]]
    if len(styles) > _MOST_LISTED:
        others.append(last)
        last = f"one of the {len(styles) - _MOST_LISTED} others that /version lists"
    return f"a list of types of entities: {', '.join(others)}{' or ' if others else ''}{last}"


def build_response_type(styles: Sequence[LabelStyle]) -> type[RootModel[Any]]:
    """Return the type of responses of a service, which documents the types of the model."""
    labels = [style.label for style in styles]
    field = AnswerEntity.model_fields["entity_group"]
    entity = create_model(
        AnswerEntity.__name__,
        __base__=AnswerEntity,
        __doc__=AnswerEntity.__doc__,
        entity_group=(_literal(labels), Field(description=field.description)),
    )
    answer = create_model(Answer.__name__, __base__=Answer, __doc__=Answer.__doc__, result=(list[entity], ...))  # type: ignore[valid-type]
    return type(
        "InferResponse",
        (RootModel[answer | list[answer]],),  # type: ignore[valid-type]
        {
            "__doc__": "One object for a text, or a list of objects for a list of texts, in the same order.",
            "__module__": __name__,
            # flask-openapi3 reads this key. As part of a schema, pydantic would sort the keys of the example.
            "model_config": cast(ConfigDict, {"openapi_extra": {"example": _example(labels)}}),
        },
    )


def _example(labels: Sequence[str]) -> dict[str, Any]:
    """Return an example of an answer, with types of the model."""
    entities = (("PS", 0.99, "이순신", 0), ("DT", 0.98, "1545년", 5), ("LC", 0.97, "서울", 11))
    result = [
        {
            "entity_group": label if label in labels else labels[i % len(labels)],
            "score": score,
            "word": word,
            "start": start,
            "end": start + len(word),
        }
        for i, (label, score, word, start) in enumerate(entities)
    ]
    return {"input": _EXAMPLE, "result": result}


class FieldError(BaseModel):
    """An invalid field of a body."""

    pointer: str = Field(description="the place of the field in the body, as a JSON pointer such as #/text/3")
    detail: str = Field(description="a sentence that says what is wrong")


class ProblemDocument(BaseModel):
    """A problem document (RFC 9457)."""

    type: Literal["about:blank"] = Field(default="about:blank", description="there are no types beside the status")
    title: str = Field(description="the name of the status")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="a sentence that says what is wrong")
    errors: list[FieldError] = Field(
        default=[], exclude_if=lambda errors: not errors, description="the invalid fields, if there are any"
    )
