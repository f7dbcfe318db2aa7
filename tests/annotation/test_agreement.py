from unicodedata import normalize

import pytest

from koner.annotation.agreement import match_texts, measure_agreement
from koner.corpus.checks import RawSentence, check

LINES = {
    "a": ["<홍길동:PS>은 <서울:LC>에 <3명:QT>과 갔다.", "<정부:OG>는 말했다.", "아무도 없다.", "<부산:LC>도 좋다."],
    "b": ["<홍길동:PS>은 <서울:OG>에 3명과 갔다.", "<정부:OG>는 말했다.", "아무도 없다.", "대구도 <좋다:QT>."],
}


def sentences(side):
    return [check(RawSentence("", f"{side}{i}", annotated=line)) for i, line in enumerate(LINES[side])]


@pytest.fixture(scope="module")
def matching():
    return match_texts(sentences("a"), reversed(sentences("b")))


def test_texts_are_matched_in_any_order_and_the_others_are_counted(matching):
    assert [(pair.a.id, pair.b.id) for pair in matching.pairs] == [("a0", "b0"), ("a1", "b1"), ("a2", "b2")]
    assert (matching.only_a, matching.only_b) == (1, 1)
    assert [pair.differs for pair in matching.pairs] == [True, False, False]


def test_a_text_that_is_there_twice_is_matched_as_often():
    twice = [*sentences("a"), *sentences("a")]
    assert len(match_texts(twice, twice).pairs) == 8
    assert (match_texts(twice, sentences("a")).only_a, match_texts(sentences("a"), twice).only_b) == (4, 4)


def test_texts_are_compared_in_nfc():
    decomposed = check(RawSentence("", "d", annotated=normalize("NFD", "<서울:LC>에 갔다.")))
    composed = check(RawSentence("", "c", annotated="<서울:OG>에 갔다."))
    assert len(match_texts([decomposed], [composed]).pairs) == 1


def test_agreement_counts_entities_and_characters(matching):
    agreement = measure_agreement(matching.pairs)
    # Two of four entities of A, and of three of B, are equal.
    assert agreement.f1.value == pytest.approx(2 * 2 / (4 + 3))
    assert agreement.f1.low <= agreement.f1.value <= agreement.f1.high
    assert (agreement.sentences, agreement.equal) == (3, 2)
    assert (agreement.by_type["PS"].f1.value, agreement.by_type["QT"].f1.value) == (1, 0)
    assert agreement.confusion == {("PS", "PS"): 1, ("OG", "OG"): 1, ("LC", "OG"): 1, ("QT", None): 1}


def test_kappa_is_that_of_the_definition(matching):
    agreement = measure_agreement(matching.pairs)
    # Characters without white space: A has 3 PS, 2 LC, 2 QT and 2 OG among 26, B has 3 PS and 4 OG.
    assert agreement.characters == 26
    observed = (26 - 4) / 26
    expected = (3 * 3 + 2 * 0 + 2 * 0 + 2 * 4 + 17 * 19) / 26**2
    assert agreement.kappa == pytest.approx((observed - expected) / (1 - expected))
    observed, expected = (26 - 2) / 26, (2 * 4 + 24 * 22) / 26**2
    assert agreement.by_type["OG"].kappa == pytest.approx((observed - expected) / (1 - expected))


def test_texts_without_entities_have_no_kappa():
    plain = [check(RawSentence("", "c", annotated="아무도 없다."))]
    agreement = measure_agreement(match_texts(plain, plain).pairs)
    assert (agreement.kappa, agreement.by_type, agreement.equal) == (None, {}, 1)
