"""What `POST /infer` takes and answers, and problem documents: one set of types checks, serialises and documents."""

from __future__ import annotations

from typing import Annotated, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, create_model

Label = Literal["PS", "LC", "OG", "DT", "TI", "QT"]
LABELS: tuple[Label, ...] = get_args(Label)

# The branches of `text`, as pydantic names them in the place of a fault.
ONE_TEXT, TEXTS = "one text", "texts"

_EXAMPLE = "이순신은 1545년 서울에서 태어났다."


class InferRequest(BaseModel):
    """Text to find entities in, and what to answer of them; `limited` gives the type with a service's limits."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"example": {"text": _EXAMPLE}}
    )

    text: str | list[str] = Field(description="a text or a list of texts")
    offsets: Literal["codepoint", "utf16"] = Field(
        default="codepoint",
        description="'codepoint' (as Python counts) or 'utf16' (as JavaScript counts): the unit of `start` and `end`",
    )
    min_score: float = Field(default=0.0, ge=0, le=1, description="a number from 0 to 1, the lowest score to answer")
    labels: list[Label] = Field(
        default=list(LABELS),
        min_length=1,
        max_length=len(LABELS),
        description="a list of the types to answer, of PS (person), LC (location), OG (organization), DT (date), "
        "TI (time) and QT (quantity)",
    )


def limited(max_text: int, max_texts: int) -> type[InferRequest]:
    """The type of requests of at most `max_texts` texts of at most `max_text` code points each."""
    text = Annotated[str, Field(min_length=1, max_length=max_text, pattern=r"\S")]
    one = Annotated[text, Tag(ONE_TEXT)]
    many = Annotated[list[text], Field(min_length=1, max_length=max_texts), Tag(TEXTS)]
    # Told apart by hand, for faults that don't speak of the branch that wasn't meant.
    either = Annotated[one | many, Discriminator(lambda value: TEXTS if isinstance(value, list) else ONE_TEXT)]
    return create_model(
        InferRequest.__name__,
        __base__=InferRequest,
        __doc__="Text to find entities in, and what to answer of them.",
        text=(
            either,
            Field(
                description=f"a text of 1 to {max_text} code points that isn't blank, or a list of 1 to {max_texts} "
                "such texts",
            ),
        ),
    )


class FoundEntity(BaseModel):
    """An entity of a text: `word` is the text from `start` up to `end`, exactly as it was sent."""

    entity_group: Label = Field(description="the type")
    score: float = Field(ge=0, le=1, description="how sure the model is, as a calibrated probability")
    word: str = Field(min_length=1)
    start: int = Field(ge=0, description="in code points, or UTF-16 units where `offsets` asks for them")
    end: int = Field(ge=1, description="in the same unit; the first after the entity")


class TextEntities(BaseModel):
    """A text as it was sent, and its entities in order."""

    input: str
    result: list[FoundEntity]


class InferResponse(RootModel[TextEntities | list[TextEntities]]):
    """An object for a text; for a list of texts a list of objects, in the order of the texts."""

    # A key of flask-openapi3's. In a schema, pydantic would sort the example's keys.
    model_config = cast(
        ConfigDict,
        {
            "openapi_extra": {
                "example": {
                    "input": _EXAMPLE,
                    "result": [
                        {"entity_group": "PS", "score": 0.99, "word": "이순신", "start": 0, "end": 3},
                        {"entity_group": "DT", "score": 0.98, "word": "1545년", "start": 5, "end": 10},
                        {"entity_group": "LC", "score": 0.97, "word": "서울", "start": 11, "end": 13},
                    ],
                }
            }
        },
    )


class Fault(BaseModel):
    """What is wrong with one field of a body."""

    pointer: str = Field(description="the place in the body, as a JSON pointer, such as #/text/3")
    detail: str


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it."""

    type: Literal["about:blank"] = Field(default="about:blank", description="the status says it all")
    title: str = Field(description="what the status means")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="one sentence on what is wrong")
    errors: list[Fault] = Field(
        default=[], exclude_if=lambda errors: not errors, description="the fields at fault, where there are such"
    )
