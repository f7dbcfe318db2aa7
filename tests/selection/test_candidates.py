import math
import unicodedata

import pytest

from koner.inference.tagger import Tagger
from koner.selection.candidates import find_candidates, fingerprint, word_pairs
from tests.inference.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다.", "😀 <정부:OG>는 왔다."]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return Tagger.load(folder, "cpu")


def test_the_uncertainty_is_that_of_the_whole_sequence(tagger):
    texts = ["홍길동은 서울에 갔다.", "정부는 왔다. 홍길동은 안 왔다.", "서울"]
    for text, found in zip(texts, find_candidates(tagger, texts), strict=True):
        (tagged,) = tagger.tag_all([text])
        assert (found.text, found.entities, found.tokens) == (text, tagged.entities, len(tagged.token_tags))
        assert math.exp(-found.uncertainty) == pytest.approx(math.prod(tagged.token_scores), rel=1e-5)
        assert found.normalized_uncertainty == pytest.approx(found.uncertainty / found.tokens)
        assert found.score == tagged.score


def test_pairs_of_words_ignore_particles_numbers_and_case():
    pairs = word_pairs("홍길동은 '서울에서' R&D를 12시에")
    assert word_pairs("홍길동이 서울로 (r&b는 3명") == pairs
    assert len(pairs) == 5
    assert len({*pairs, *word_pairs("홍길동은 부산에서 R&D를 12시에")}) == 7


def test_a_long_text_keeps_a_bounded_number_of_pairs():
    words = [f"{chr(0xAC00 + i)}{chr(0xAC00 + i)}" for i in range(200)]
    pairs = word_pairs(" ".join(words))
    assert len(pairs) == 64
    # A sample that texts with the same words share.
    assert len({*pairs} & {*word_pairs(" ".join(words[:190]))}) > 50


def test_texts_without_tokens_are_candidates_of_no_value(tagger):
    (found,) = find_candidates(tagger, [" "])
    assert (found.uncertainty, found.normalized_uncertainty, found.score, len(found.pairs)) == (0, 0, 1, 1)


def test_a_fingerprint_ignores_numbers_white_space_and_the_unicode_form():
    text = "홍길동은 12시에 왔다"
    same = ["홍길동은  3시에 왔다 ", unicodedata.normalize("NFD", text), "홍길동은\t12시에\n왔다"]
    assert {fingerprint(other) for other in same} == {fingerprint(text)}
    assert fingerprint("홍길동은 12시에 갔다") != fingerprint(text)
