import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.text.sentences import sentence_spans


def sentences(text):
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("갔다. 왔다.", ["갔다. ", "왔다."], id="full stop"),
        pytest.param("갔다! 왔나?\t글쎄… 그래", ["갔다! ", "왔나?\t", "글쎄… ", "그래"], id="other ends"),
        pytest.param("뭐?! 그래...  응", ["뭐?! ", "그래...  ", "응"], id="several signs, several spaces"),
        pytest.param("行った。 来た！ 何？ ", ["行った。 ", "来た！ ", "何？ "], id="full width"),
        pytest.param("“가자.” 그는 갔다.", ["“가자.” ", "그는 갔다."], id="closing quote"),
        pytest.param("(끝났다.) 그리고", ["(끝났다.) ", "그리고"], id="closing bracket"),
        pytest.param(
            "재밌다ㅋㅋ 또 볼래^^ 눈물이ㅠㅠ 최고♥ 끝",
            ["재밌다ㅋㅋ ", "또 볼래^^ ", "눈물이ㅠㅠ ", "최고♥ ", "끝"],
            id="laughter and tears",
        ),
        pytest.param("제목\n본문", ["제목\n", "본문"], id="line"),
        pytest.param("하나. \r\n\r\n  둘", ["하나. \r\n\r\n  ", "둘"], id="blank lines"),
        pytest.param("  가다. 나", ["  가다. ", "나"], id="leading space"),
        pytest.param("\n\n가", ["\n\n가"], id="leading lines"),
        pytest.param("가\n", ["가\n"], id="trailing line"),
        pytest.param(" \n ", [" \n "], id="blank"),
        pytest.param("", [], id="empty"),
    ],
)
def test_sentences_are_split(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("3.5% 올라 1,234.5원이다", id="decimal"),
        pytest.param("2024. 3. 15. 서울에서 열렸다.", id="date"),
        pytest.param("koner.kr에 있다", id="address"),
        pytest.param("연휴 내내 쉬었다", id="a syllable with the letters of laughter or tears"),
        pytest.param("나랏말ᄊᆞ미 듕귁에 달아 서르 ᄉᆞᄆᆞᆺ디", id="old letters"),
        pytest.param("왔다고?그래", id="no space after the sign"),
        pytest.param('"가다"라고 했다', id="quotation before a particle"),
    ],
)
def test_a_sentence_is_not_split(text):
    assert sentences(text) == [text]


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n", "\u2028", "\u2029"])
def test_every_kind_of_line_end_ends_a_sentence(newline):
    assert sentences(f"서울{newline}부산") == [f"서울{newline}", "부산"]


@pytest.mark.parametrize("control", ["\v", "\f", "\x1c", "\x1f", "\x85"])
def test_control_characters_do_not_end_a_sentence(control):
    assert sentences(f"서울{control}부산! {control}대구!{control}광주") == [
        f"서울{control}부산! {control}",
        f"대구!{control}광주",
    ]


@given(st.text(st.sampled_from('가1.!?…。"”) \n\r\u2028\u3000')) | st.text())
def test_the_spans_cover_the_text_and_none_is_blank(text):
    split = sentences(text)
    assert "".join(split) == text
    assert all(sentence.strip() for sentence in split) or not text.strip()
    assert all(sentence[-1].isspace() for sentence in split[:-1])


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (".", 1),
        (" ", 1),
        ("\n", 1),
        ('"', 1),
        ('."', 1),
        ("1. ", 1),
        ("가. ", 100_000),
        ("가\n", 100_000),
        ("!\u3000", 100_000),
    ],
)
def test_splitting_takes_linear_time(unit, expected):
    # Quadratic time would be hours.
    assert len(sentence_spans(unit * 100_000)) == expected
