import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.corpus.inline import parse_inline, write_inline
from koner.labels.bio import Entity


@pytest.mark.parametrize(
    ("annotated", "text", "entities"),
    [
        ("비가 온다", "비가 온다", []),
        ("<서울:LC>에서", "서울에서", [Entity(0, 2, "LC")]),
        ("<3일:DT> <오전 10시:TI>", "3일 오전 10시", [Entity(0, 2, "DT"), Entity(3, 9, "TI")]),
        ("<원저우:LC>(<溫州:LC>)", "원저우(溫州)", [Entity(0, 3, "LC"), Entity(4, 6, "LC")]),
        ("<북:LC><미:LC>", "북미", [Entity(0, 1, "LC"), Entity(1, 2, "LC")]),
        ("<12:30:TI>", "12:30", [Entity(0, 5, "TI")]),
        ("<<10:QT>>점", "<10>점", [Entity(1, 3, "QT")]),
        ("<명량>은 <10점:QT>", "<명량>은 10점", [Entity(6, 9, "QT")]),
        ("1 < 2 > <김:PS>", "1 < 2 > 김", [Entity(8, 9, "PS")]),
        ("<서울:LCP-CITY><월드:5GPLN>", "서울월드", [Entity(0, 2, "LCP-CITY"), Entity(2, 4, "5GPLN")]),
        ("<12:30:시각>", "12:30", [Entity(0, 5, "시각")]),
        ("<서울:O> <서울: LC> <서울:>", "<서울:O> <서울: LC> <서울:>", []),
        ("<서울:X X>", "<서울:X X>", []),
        ("<서울:LCP-CITY>", "서울", [Entity(0, 2, "LCP-CITY")]),
    ],
)
def test_inline_marks_are_parsed_and_written(annotated, text, entities):
    assert parse_inline(annotated) == (text, entities)
    assert write_inline(text, entities) == annotated


def test_inline_marks_are_written_in_the_order_of_the_text():
    assert write_inline("서울 부산", [Entity(3, 5, "LC"), Entity(0, 2, "LC")]) == "<서울:LC> <부산:LC>"


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("가나ab :.,", max_size=4), st.text("서울1 :", min_size=1, max_size=4))))
def test_inline_marks_survive_writing_and_parsing(pieces):
    text, entities = "", []
    for before, surface in pieces:
        start = len(text) + len(before)
        entities.append(Entity(start, start + len(surface), "LC"))
        text += before + surface
    assert parse_inline(write_inline(text, entities)) == (text, entities)
