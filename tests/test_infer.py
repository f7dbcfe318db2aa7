import json
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koner.answers import answer
from koner.decoding import ScoredEntity

pytest_plugins = ["tests.app_fixtures"]

TEXT = "👩🏽‍🚀홍길동이 서울에서 3명을 만났다."


def infer(client, text, **options):
    answer = client.post("/infer", json={"text": text, **options})
    assert answer.status_code == 200, answer.text
    return answer.json


def utf16(text):
    return text.encode("utf-16-le")


# At least one character that is no white space in any dialect.
TEXTS = st.one_of(
    st.text(st.sampled_from("홍길동서울부산정부3명 \t\nㅋㅎ한ᄒ́각👩‍👩🏽ＡＢ中！.\u200bé́\x00\x1b"), max_size=60),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda t: unicodedata.normalize("NFD", t)),
).filter(lambda text: text.strip())


def test_an_answer_is_laid_out_as_published(client):
    answer = client.post("/infer", json={"text": TEXT})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    # In this order, and Hangul as UTF-8, not escaped.
    assert answer.data.startswith(
        '{"input":"👩🏽‍🚀홍길동이 서울에서 3명을 만났다.","result":[{"entity_group":"'.encode()
    )
    assert list(answer.json) == ["input", "result"]
    assert answer.json["input"] == TEXT
    assert answer.json["result"]
    for entity in answer.json["result"]:
        assert list(entity) == ["entity_group", "score", "word", "start", "end"]
        assert list(map(type, entity.values())) == [str, float, str, int, int]


def test_an_answer_is_what_the_tagger_finds(client, tagger):
    found = [(e.label, TEXT[e.start : e.end], e.start, e.end) for e in tagger.tag(TEXT)]
    result = infer(client, TEXT)["result"]
    assert [(e["entity_group"], e["word"], e["start"], e["end"]) for e in result] == found
    assert [e["score"] for e in result] == pytest.approx([e.score for e in tagger.tag(TEXT)], abs=1e-5)


def test_a_list_is_answered_in_its_order(client):
    texts = [TEXT * 12, "서울", "ㅋ", TEXT, "서울"]
    answers = infer(client, texts)
    assert [answer["input"] for answer in answers] == texts
    for together, text in zip(answers, texts, strict=True):
        alone = infer(client, text)
        assert [{**e, "score": 0} for e in together["result"]] == [{**e, "score": 0} for e in alone["result"]]


def test_a_list_of_one_is_answered_by_a_list(client):
    assert [answer["input"] for answer in infer(client, ["서울"])] == ["서울"]


@settings(max_examples=80, deadline=None)
@given(text=TEXTS)
@example(text=TEXT)
@example(text=unicodedata.normalize("NFD", TEXT))
@example(text="\x00\x01 서울\x7f\x85")
@example(text="\ufeff서울\ufffe\U0010ffff부산")
def test_words_stand_where_they_are_said_to(app, text):
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


def test_utf16_differs_behind_an_emoji_only(client):
    before, after = infer(client, "서울👩🏽부산")["result"], infer(client, "서울👩🏽부산", offsets="utf16")["result"]
    assert before[0]["start"] == after[0]["start"] == 0
    assert after[-1]["end"] == before[-1]["end"] + 2 == 8


@given(text=st.text(), cuts=st.data())
def test_utf16_spans_slice_the_encoding(text, cuts):
    places = sorted(cuts.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = list(zip(places[::2], places[1::2], strict=False))
    found = answer(text, [ScoredEntity(a, b, "PS", 0.5) for a, b in spans], offsets="utf16")["result"]
    encoded = utf16(text)
    assert [encoded[2 * e["start"] : 2 * e["end"]] for e in found] == [utf16(text[a:b]) for a, b in spans]


def test_min_score_leaves_out_what_is_below(client):
    everything = infer(client, TEXT)["result"]
    scores = sorted(entity["score"] for entity in everything)
    bar = (scores[0] + scores[-1]) / 2
    kept = infer(client, TEXT, min_score=bar)["result"]
    assert 0 < len(kept) < len(everything)
    assert kept == [entity for entity in everything if entity["score"] >= bar]
    assert infer(client, TEXT, min_score=0)["result"] == everything


def test_labels_leave_out_the_others(client):
    everything = infer(client, TEXT)["result"]
    labels = sorted({entity["entity_group"] for entity in everything})
    assert len(labels) > 1
    kept = infer(client, TEXT, labels=labels[:1])["result"]
    assert kept == [entity for entity in everything if entity["entity_group"] == labels[0]]
    assert infer(client, TEXT, labels=labels)["result"] == everything


def test_a_text_of_the_greatest_length_is_taken(client):
    text = "가" * 10_000
    assert infer(client, text)["input"] == text


def test_escapes_of_any_character_are_taken(client):
    body = json.dumps({"text": TEXT + "\x00\x1f"})
    assert body.isascii()
    assert infer(client, TEXT + "\x00\x1f") == client.post("/infer", data=body, content_type="application/json").json
