"""The answer for a text: one schema that `POST /infer`, `koner tag` and the tagging of corpora share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from koner.inference.offsets import OffsetUnit, offset_table

if TYPE_CHECKING:
    from koner.inference.decoding import ScoredEntity

_SCORE_DECIMALS = 6


class AnswerEntity(BaseModel):
    """An entity of a text: `word` is the text from `start` up to `end`, exactly as it was sent."""

    model_config = ConfigDict(frozen=True)

    entity_group: str = Field(description="the type")
    score: float = Field(ge=0, le=1, description="the confidence of the model, as a calibrated probability")
    word: str = Field(min_length=1)
    start: int = Field(ge=0, description="in code points, or in UTF-16 code units if `offsets` asks for them")
    end: int = Field(ge=1, description="in the same unit; the first after the entity")


class Answer(BaseModel):
    """A text as it was sent, and its entities in order."""

    model_config = ConfigDict(frozen=True)

    input: str
    result: list[AnswerEntity]

    # Not a validator of AnswerEntity, which pydantic would call once per entity.
    @field_validator("result")
    @classmethod
    def _check_spans(cls, result: list[AnswerEntity]) -> list[AnswerEntity]:
        for entity in result:
            if entity.start >= entity.end:
                raise ValueError(f"start {entity.start} of '{entity.word}' is not less than its end {entity.end}")
        return result


_ANSWERS = TypeAdapter(list[Answer])


def build_answers(
    texts: Iterable[str],
    entities: Iterable[Iterable[ScoredEntity]],
    *,
    offsets: OffsetUnit = "codepoint",
    min_score: float = 0.0,
    labels: Collection[str] | None = None,
) -> list[Answer]:
    """Build the answers for texts.

    Args:
        texts: The texts.
        entities: The entities of each text, in order.
        offsets: The unit of `start` and `end`.
        min_score: The lowest score of an entity in an answer.
        labels: The types in an answer; all types if None.

    Returns:
        One answer per text, in the order of the texts.

    Raises:
        pydantic.ValidationError: If a selected entity is not valid, for example because its score is above 1.
    """
    values = []
    for text, text_entities in zip(texts, entities, strict=True):
        table = offset_table(text, offsets)
        selected = filter_entities(text_entities, min_score, labels)
        result = [
            {
                "entity_group": entity.label,
                "score": round(entity.score, _SCORE_DECIMALS),
                "word": text[entity.start : entity.end],
                "start": table[entity.start],
                "end": table[entity.end],
            }
            for entity in selected
        ]
        values.append({"input": text, "result": result})
    # One validation of all values takes two thirds of the time of building the objects one by one.
    return _ANSWERS.validate_python(values)


def build_answer(
    text: str,
    entities: Iterable[ScoredEntity],
    *,
    offsets: OffsetUnit = "codepoint",
    min_score: float = 0.0,
    labels: Collection[str] | None = None,
) -> Answer:
    """Build the answer for one text, as `build_answers` does for many."""
    (answer,) = build_answers([text], [entities], offsets=offsets, min_score=min_score, labels=labels)
    return answer


def serialize_answers(answers: list[Answer]) -> bytes:
    """Return answers as a JSON array in UTF-8, without spaces between its items."""
    return _ANSWERS.dump_json(answers)


def filter_entities(
    entities: Iterable[ScoredEntity], min_score: float = 0.0, labels: Collection[str] | None = None
) -> list[ScoredEntity]:
    """Return the entities with at least `min_score` and, unless `labels` is None, with one of those types."""
    return [e for e in entities if e.score >= min_score and (labels is None or e.label in labels)]
