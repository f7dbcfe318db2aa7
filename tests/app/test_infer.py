import json
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koner.inference.answers import build_answer
from koner.inference.decoding import ScoredEntity

TEXT = "👩🏽‍🚀홍길동이 서울에서 3명을 만났다."


def infer(client, text, **options):
    response = client.post("/infer", json={"text": text, **options})
    assert response.status_code == 200, response.text
    return response.json


def utf16(text):
    return text.encode("utf-16-le")


# Each text has a character that is no white space in any definition.
TEXTS = st.one_of(
    st.text(st.sampled_from("홍길동서울부산정부3명 \t\nㅋㅎ한ᄒ́각👩‍👩🏽ＡＢ中！.\u200bé́\x00\x1b"), max_size=60),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda t: unicodedata.normalize("NFD", t)),
).filter(lambda text: text.strip())


def test_the_response_has_the_documented_form(client):
    response = client.post("/infer", json={"text": TEXT})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    # The order of the fields is fixed, and Hangul is not escaped.
    assert response.data.startswith(
        '{"input":"👩🏽‍🚀홍길동이 서울에서 3명을 만났다.","result":[{"entity_group":"'.encode()
    )
    assert list(response.json) == ["input", "result"]
    assert response.json["input"] == TEXT
    assert response.json["result"]
    for entity in response.json["result"]:
        assert list(entity) == ["entity_group", "score", "word", "start", "end"]
        assert list(map(type, entity.values())) == [str, float, str, int, int]


def test_the_response_has_the_entities_of_the_tagger(client, tagger):
    expected = [(e.label, TEXT[e.start : e.end], e.start, e.end) for e in tagger.tag(TEXT)]
    result = infer(client, TEXT)["result"]
    assert [(e["entity_group"], e["word"], e["start"], e["end"]) for e in result] == expected
    assert [e["score"] for e in result] == pytest.approx([e.score for e in tagger.tag(TEXT)], abs=1e-5)


def test_the_responses_to_a_list_are_in_its_order(client):
    texts = [TEXT * 12, "서울", "ㅋ", TEXT, "서울"]
    answers = infer(client, texts)
    assert [answer["input"] for answer in answers] == texts
    for together, text in zip(answers, texts, strict=True):
        alone = infer(client, text)
        assert [{**e, "score": 0} for e in together["result"]] == [{**e, "score": 0} for e in alone["result"]]


def test_the_response_to_a_list_of_one_text_is_a_list(client):
    assert [answer["input"] for answer in infer(client, ["서울"])] == ["서울"]


@settings(max_examples=80, deadline=None)
@given(text=TEXTS)
@example(text=TEXT)
@example(text=unicodedata.normalize("NFD", TEXT))
@example(text="\x00\x01 서울\x7f\x85")
@example(text="\ufeff서울\ufffe\U0010ffff부산")
def test_words_are_at_their_offsets(app, text):
    client = app.test_client()
    answer = infer(client, text)
    assert answer["input"] == text
    result = answer["result"]
    for entity in result:
        assert entity["word"] == text[entity["start"] : entity["end"]] != ""
    assert all(before["end"] <= after["start"] for before, after in pairwise(result))

    javascript = infer(client, text, offsets="utf16")
    assert javascript["input"] == text
    assert [{**e, "start": 0, "end": 0, "score": 0} for e in javascript["result"]] == [
        {**e, "start": 0, "end": 0, "score": 0} for e in result
    ]
    for entity in javascript["result"]:
        assert utf16(text)[2 * entity["start"] : 2 * entity["end"]] == utf16(entity["word"])


def test_utf16_offsets_differ_only_after_an_emoji(client):
    codepoint = infer(client, "서울👩🏽부산")["result"]
    utf16_result = infer(client, "서울👩🏽부산", offsets="utf16")["result"]
    assert codepoint[0]["start"] == utf16_result[0]["start"] == 0
    assert utf16_result[-1]["end"] == codepoint[-1]["end"] + 2 == 8


@given(text=st.text(), data=st.data())
def test_utf16_offsets_slice_the_encoded_text(text, data):
    boundaries = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8, unique=True)))
    spans = list(zip(boundaries[::2], boundaries[1::2], strict=False))
    entities = build_answer(text, [ScoredEntity(a, b, "PS", 0.5) for a, b in spans], offsets="utf16").result
    encoded = utf16(text)
    assert [encoded[2 * e.start : 2 * e.end] for e in entities] == [utf16(text[a:b]) for a, b in spans]


def test_min_score_filters_the_entities(client):
    all_entities = infer(client, TEXT)["result"]
    scores = sorted(entity["score"] for entity in all_entities)
    threshold = (scores[0] + scores[-1]) / 2
    filtered = infer(client, TEXT, min_score=threshold)["result"]
    assert 0 < len(filtered) < len(all_entities)
    assert filtered == [entity for entity in all_entities if entity["score"] >= threshold]
    assert infer(client, TEXT, min_score=0)["result"] == all_entities


def test_labels_filter_the_entities(client):
    all_entities = infer(client, TEXT)["result"]
    labels = sorted({entity["entity_group"] for entity in all_entities})
    assert len(labels) > 1
    filtered = infer(client, TEXT, labels=labels[:1])["result"]
    assert filtered == [entity for entity in all_entities if entity["entity_group"] == labels[0]]
    assert infer(client, TEXT, labels=labels)["result"] == all_entities


def test_a_text_of_the_maximum_length_is_accepted(client):
    text = "가" * 10_000
    assert infer(client, text)["input"] == text


def test_escaped_characters_are_accepted(client):
    body = json.dumps({"text": TEXT + "\x00\x1f"})
    assert body.isascii()
    assert infer(client, TEXT + "\x00\x1f") == client.post("/infer", data=body, content_type="application/json").json
