from itertools import count, islice

import pytest

from koner.errors import KonerError
from koner.text.morphemes import TAGS, AnalysedText, analyse

TEXTS = ["서울에 갔다.", "", "부산에서 만나요", "ㅋㅋ"]


def test_morphemes_have_a_span_and_a_tag():
    (analysed,) = analyse(["서울에 갔다"])
    assert analysed.text == "서울에 갔다"
    # 갔 is 가 and 았 in one syllable.
    spans = [(start, length, TAGS[tag]) for start, length, tag in analysed.morphemes]
    assert spans == [(0, 2, "NNP"), (2, 1, "JKB"), (4, 1, "VV"), (4, 1, "EP"), (5, 1, "EF")]


def test_a_stream_of_texts_equals_its_texts_one_by_one():
    assert list(analyse(TEXTS * 30)) == [analysed for text in TEXTS for analysed in analyse([text])] * 30
    assert list(analyse([""])) == [AnalysedText("", ())]


def test_an_infinite_stream_is_read_lazily():
    stream = islice(analyse(f"{i}번" for i in count()), 100)
    assert [analysed.text for analysed in stream] == [f"{i}번" for i in range(100)]


def test_an_error_of_the_stream_is_raised():
    def broken():
        yield from TEXTS
        raise KonerError("no more")

    with pytest.raises(KonerError, match="no more"):
        list(analyse(broken()))
