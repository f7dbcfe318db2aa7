"""The rules for names, with the real dictionaries and lists."""

import sys

import pytest

from koner.errors import KonerError
from koner.labels.bio import Entity
from koner.pretraining import weak_names
from koner.pretraining.weak_names import find_names
from koner.text.morphemes import TAGS, AnalysedText, analyse

pytest.importorskip("mecab")


def found(text):
    (analysed,) = analyse([text])
    names, doubtful = find_names(analysed)
    return [(text[e.start : e.end], e.label) for e in names], {text[start:end] for start, end in doubtful}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("송강호와 봉준호 감독의 영화", [("송강호", "PS"), ("봉준호", "PS")]),
        ("브래드 피트는 늙지 않는다", [("브래드 피트", "PS")]),
        ("경찰은 김 씨와 A씨를 불렀다", [("경찰", "OG"), ("김", "PS"), ("A", "PS")]),
        ("서울 마포구 서교동에서 열렸다", [("서울 마포구 서교동", "LC")]),
        ("부산 동래경찰서에 따르면", [("부산 동래경찰서", "OG")]),
        ("삼성전자가 강릉에 공장을 짓는다", [("삼성전자", "OG"), ("강릉", "LC")]),
        ("미국 정부와 국민은행이 합의했다", [("미국 정부", "OG"), ("국민은행", "OG")]),
        # Common nouns that a list, a dictionary or an ending would take for names.
        ("신용카드로 두 편 이상 봤다", []),
        ("이상한 사람이 한 배우를 지지했다", []),
    ],
)
def test_names_have_no_particles_and_no_titles(text, expected):
    assert found(text)[0] == expected


def test_two_koreans_are_two_persons():
    assert found("한석규 최민식 둘 다 좋다")[0] == [("한석규", "PS"), ("최민식", "PS")]


def test_a_proper_noun_without_a_type_is_doubtful():
    names, doubtful = found("우리 팀은 Zxqw를 쓴다")
    assert names == []
    assert "Zxqw" in doubtful


def test_kiwi_and_mecab_must_agree_on_the_span_of_a_name_that_is_not_listed():
    # For mecab-ko-dic 다비드 is a person; it is one if it is a proper noun for Kiwi, too, and not a part of one.
    text, proper = "다비드상이 있다", TAGS.index("NNP")
    assert find_names(AnalysedText(text, ((0, 3, proper),)))[0] == [Entity(0, 3, "PS")]
    names, doubtful = find_names(AnalysedText(text, ((0, 4, proper),)))
    assert names == []
    assert (0, 4) in doubtful


def test_missing_mecab_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "mecab", None)
    weak_names._mecab.cache_clear()
    with pytest.raises(
        KonerError, match=r"weak_weight: python-mecab-ko is not installed; pip install 'koner\[pretrain\]'"
    ):
        weak_names._mecab()
