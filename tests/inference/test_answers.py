import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from koner.inference.answers import Answer, build_answer, build_answers, serialize_answers
from koner.inference.decoding import ScoredEntity

TEXT = "홍길동은 서울에서 살았다."
ENTITIES = [ScoredEntity(0, 3, "PS", 0.99984), ScoredEntity(5, 7, "LC", 0.5)]
VALUES = {
    "input": TEXT,
    "result": [
        {"entity_group": "PS", "score": 0.99984, "word": "홍길동", "start": 0, "end": 3},
        {"entity_group": "LC", "score": 0.5, "word": "서울", "start": 5, "end": 7},
    ],
}


def words(answer):
    return [entity.word for entity in answer.result]


def test_an_answer_has_the_published_fields_in_their_order():
    assert json.dumps(build_answer(TEXT, ENTITIES).model_dump()) == json.dumps(VALUES)


def test_answers_are_serialized_without_spaces_and_with_hangul_unescaped():
    expected = json.dumps([VALUES, {"input": "", "result": []}], ensure_ascii=False, separators=(",", ":"))
    answers = build_answers([TEXT, ""], [ENTITIES, []])
    assert serialize_answers(answers) == expected.encode()
    assert f"[{answers[0].model_dump_json()},{answers[1].model_dump_json()}]" == expected


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(100, 1_000_000))
def test_serialization_escapes_text_and_writes_scores_as_json_dumps_does(text, millionths):
    text = f"가{text}"
    answer = build_answer(text, [ScoredEntity(0, len(text), "PS", millionths / 1e6)])
    expected = json.dumps([answer.model_dump()], ensure_ascii=False, separators=(",", ":"))
    assert serialize_answers([answer]).decode() == expected


def test_scores_are_rounded_to_six_decimals():
    assert build_answer(TEXT, [ScoredEntity(0, 3, "PS", 1 / 3)]).result[0].score == 0.333333


def test_entities_are_selected_by_score_and_label():
    assert words(build_answer(TEXT, ENTITIES, min_score=0.5)) == ["홍길동", "서울"]
    assert words(build_answer(TEXT, ENTITIES, min_score=0.51)) == ["홍길동"]
    assert words(build_answer(TEXT, ENTITIES, labels=["LC"])) == ["서울"]
    assert words(build_answer(TEXT, ENTITIES, labels=[])) == []


@given(st.text(st.sampled_from("가a😀𠮷\u0301\n"), min_size=1), st.data())
def test_utf16_offsets_cut_the_word_out_of_the_utf16_text(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    entity = ScoredEntity(start, data.draw(st.integers(start + 1, len(text))), "PS", 1.0)
    (entity,) = build_answer(text, [entity], offsets="utf16").result
    units = text.encode("utf-16-le")
    assert units[2 * entity.start : 2 * entity.end].decode("utf-16-le") == entity.word


@pytest.mark.parametrize(
    ("entity", "field"),
    [
        (ScoredEntity(0, 3, "PS", 1.5), "score"),
        (ScoredEntity(0, 3, None, 0.5), "entity_group"),
        (ScoredEntity(2, 2, "PS", 0.5), "word"),
    ],
)
def test_an_invalid_entity_is_refused(entity, field):
    with pytest.raises(ValidationError, match=rf"\.result\.0\.{field}\n"):
        build_answer(TEXT, [entity])


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
def test_a_score_is_a_probability(score):
    with pytest.raises(ValidationError, match=r"result\.0\.score\n"):
        Answer.model_validate({"input": TEXT, "result": [VALUES["result"][0] | {"score": score}]})


def test_a_span_that_ends_before_it_starts_is_refused():
    entity = VALUES["result"][0] | {"start": 3, "end": 3}
    with pytest.raises(ValidationError, match="start 3 of '홍길동' is not less than its end 3"):
        Answer.model_validate({"input": TEXT, "result": [entity]})
