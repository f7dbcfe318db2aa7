from itertools import count, islice

import pytest

from koner.errors import KonerError
from koner.morphemes import TAGS, Analysed, analyse

TEXTS = ["서울에 갔다.", "", "부산에서 만나요", "ㅋㅋ"]


def test_morphemes_are_told_by_place_and_tag():
    (found,) = analyse(["서울에 갔다"])
    assert found.text == "서울에 갔다"
    # 갔 is 가 and 았 in one syllable.
    spans = [(start, length, TAGS[tag]) for start, length, tag in found.morphemes]
    assert spans == [(0, 2, "NNP"), (2, 1, "JKB"), (4, 1, "VV"), (4, 1, "EP"), (5, 1, "EF")]


def test_a_stream_gives_what_its_texts_give_one_by_one_in_order():
    assert list(analyse(TEXTS * 30)) == [found for text in TEXTS for found in analyse([text])] * 30
    assert list(analyse([""])) == [Analysed("", ())]


def test_a_stream_without_end_is_read_as_far_as_asked_for():
    found = islice(analyse(f"{i}번" for i in count()), 100)
    assert [f.text for f in found] == [f"{i}번" for i in range(100)]


def test_a_fault_of_the_stream_is_told():
    def broken():
        yield from TEXTS
        raise KonerError("no more")

    with pytest.raises(KonerError, match="no more"):
        list(analyse(broken()))
