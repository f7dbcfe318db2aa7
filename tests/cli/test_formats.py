import html
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from koner.cli.formats import format_inline, format_jsonl, format_table
from koner.corpus.inline import parse_inline
from koner.inference.decoding import ScoredEntity
from koner.labels.klue import KLUE

TEXT = "홍길동은 서울에서 살았다."
ENTITIES = [ScoredEntity(0, 3, "PS", 0.99984), ScoredEntity(5, 7, "LC", 0.5)]


def test_a_line_of_json_has_spaces_and_unescaped_hangul():
    assert format_jsonl(TEXT, ENTITIES[1:], "codepoint") == (
        '{"input": "홍길동은 서울에서 살았다.", "result": '
        '[{"entity_group": "LC", "score": 0.5, "word": "서울", "start": 5, "end": 7}]}\n'
    )


@given(st.text(st.sampled_from("가b<>&;:#10LCamplt\r\n\\") | st.characters(exclude_categories=["Cs"])), st.data())
def test_inline_marks_and_text_are_read_back_from_any_text(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    line = format_inline(text, [ScoredEntity(a, b, data.draw(st.sampled_from(KLUE.types)), 1.0) for a, b in spans])
    assert line.endswith("\n")
    assert not re.search("[\r\n]", line[:-1])
    plain, entities = parse_inline(line[:-1])
    assert [html.unescape(plain[e.start : e.end]) for e in entities] == [text[a:b] for a, b in spans]
    position, between = 0, ""
    for e in entities:
        between += html.unescape(plain[position : e.start]) + html.unescape(plain[e.start : e.end])
        position = e.end
    assert between + html.unescape(plain[position:]) == text


def test_inline_is_the_format_of_klue_if_a_text_has_no_brackets():
    assert format_inline(TEXT, ENTITIES) == "<홍길동:PS>은 <서울:LC>에서 살았다.\n"
    assert format_inline("R&D 투자", [ScoredEntity(0, 3, "OG", 1.0)]) == "<R&D:OG> 투자\n"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_columns_of_a_table_are_aligned(form):
    words = ["홍길동", "Bob", "ＫＢＳ", "é", "👩‍👩‍👧"]
    text = unicodedata.normalize(form, " ".join(words))
    entities, position = [], 0
    for word in text.split(" "):
        entities.append(ScoredEntity(position, position + len(word), "PS", 0.98765))
        position += len(word) + 1
    head, *lines = format_table(text, entities, "codepoint", 7).rstrip("\n").split("\n")
    assert head == f"7: {text}"
    assert lines[0].split() == ["word", "type", "score", "start", "end"]
    assert [line.split() for line in lines[2:]] == [
        [text[e.start : e.end], "PS", "0.988", str(e.start), str(e.end)] for e in entities
    ]
    assert len({wcswidth(line[: line.index("PS")]) for line in lines[2:]}) == 1
    assert len({wcswidth(line) for line in lines}) == 1


def test_a_table_shows_control_characters_instead_of_sending_them():
    shown = format_table("\x1b[2J\n가\u2028", [ScoredEntity(0, 6, "OG", 1.0)], "codepoint", 1)
    assert shown.startswith("1: \\x1b[2J\\n가\\u2028\n")
    assert "\x1b" not in shown


def test_a_table_shows_characters_that_change_the_order_of_others():
    text = "\u202e가\u2066나\u2069"
    shown = format_table(text, [ScoredEntity(0, 2, "PS", 1.0)], "codepoint", 1)
    assert not set("\u202e\u2066\u2069") & set(shown)
    assert shown.startswith("1: \\u202e가\\u2066나\\u2069\n")
    assert "👩‍👩‍👧" in format_table("👩‍👩‍👧", [], "codepoint", 1)
