import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.pretraining.weak_numbers import find_numbers


def found(text):
    return [(text[e.start : e.end], e.label) for e in find_numbers(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("지난 2014년 3월 12일 개봉했다", [("지난 2014년 3월 12일", "DT")]),
        ("3년 만에 돌아온 70년대 영화", [("3년", "DT"), ("70년대", "DT")]),
        ("이날 오후 3시 30분께 열린다", [("이날", "DT"), ("오후 3시 30분", "TI")]),
        ("두시간 30분짜리, 2∼3일 걸린다", [("두시간", "TI"), ("30분", "TI"), ("2∼3일", "DT")]),
        ("6만2천891명이 1,200억원을 냈다", [("6만2천891명", "QT"), ("1,200억원", "QT")]),
        ("제6회 대회에서 3위, 19.9% 올랐다", [("제6회", "QT"), ("3위", "QT"), ("19.9%", "QT")]),
        ("한 번 보고 두 명이 울었다", [("한 번", "QT"), ("두 명", "QT")]),
        ("10점 만점에 하나도 아깝지 않다", [("10점", "QT"), ("하나", "QT")]),
        # Common words that begin or end like numbers.
        ("한편 세상은 두려움으로 가득하다", []),
        ("MP3와 H7N9를 본다", []),
        ("일본의 분위기", []),
    ],
)
def test_dates_times_and_quantities_have_their_units_and_no_particles(text, expected):
    assert found(text) == expected


@given(st.text(st.sampled_from("0123456789.,:~년월일시분초명원만천억 제한두지난오후 이"), max_size=40))
def test_numbers_are_disjoint_spans_of_the_text(text):
    end = 0
    for entity in find_numbers(text):
        assert end <= entity.start < entity.end <= len(text)
        assert text[entity.start : entity.end].strip()
        end = entity.end
