import re
import unicodedata
from collections import Counter

import pytest

from koner.corpus import write_inline
from koner.labels import TYPES
from koner.sources import read_checked, read_source, sample_folder


@pytest.fixture(scope="module")
def parts():
    return read_checked(read_source("sample", "ner", None))


@pytest.fixture(scope="module")
def sentences(parts):
    return parts["train"] + parts["validation"]


@pytest.fixture(scope="module")
def mentions(sentences):
    """Every entity as its sentence, itself and its surface."""
    return [(s, e, s.text[e.start : e.end]) for s in sentences for e in s.entities]


def bare(text):
    """A text without its spaces and punctuation."""
    return re.sub(r"[\W_]", "", text)


def unspaced(text):
    return re.sub(r"\s", "", text)


def masked(sentence):
    """A sentence with each entity's surface replaced by its type."""
    pieces, position = [], 0
    for e in sentence.entities:
        pieces += [sentence.text[position : e.start], f"<{e.label}>"]
        position = e.end
    return "".join(pieces) + sentence.text[position:]


def repeated(values):
    return [value for value, count in Counter(values).items() if count > 1]


def surfaces(sentences):
    return {s.text[e.start : e.end] for s in sentences for e in s.entities}


def test_there_are_enough_sentences(sentences):
    assert len(sentences) >= 1200


def test_news_and_reviews_are_about_as_many(parts):
    for found in (parts["train"], parts["validation"], parts["train"] + parts["validation"]):
        assert 0.4 <= sum(s.source == "news" for s in found) / len(found) <= 0.6
        assert {s.source for s in found} == {"news", "reviews"}


@pytest.mark.parametrize("type_", TYPES)
def test_every_type_occurs_often(mentions, type_):
    assert sum(e.label == type_ for _, e, _ in mentions) >= 250


def test_no_sentence_stands_twice(sentences):
    assert repeated(bare(s.text) for s in sentences) == []


def test_some_sentences_have_no_entity(sentences):
    assert sum(not s.entities for s in sentences) >= 0.05 * len(sentences)


@pytest.mark.parametrize("script", [pytest.param(r"[\u4e00-\u9fff]", id="Hanja"), pytest.param("[A-Za-z]", id="Latin")])
def test_other_scripts_occur(sentences, mentions, script):
    assert any(re.search(script, s.text) for s in sentences)
    assert any(re.search(script, surface) for _, _, surface in mentions)


def test_at_most_half_of_the_test_s_surfaces_occur_in_train(parts):
    test = surfaces(parts["validation"])
    assert len(test & surfaces(parts["train"])) <= len(test) / 2


def test_hardly_a_sentence_is_another_with_its_entities_exchanged(sentences):
    masks = [bare(masked(s)) for s in sentences]
    assert len(masks) - len(set(masks)) <= 0.01 * len(masks)


def test_everything_is_nfc(sentences):
    files = sorted(sample_folder().glob("*.txt"))
    assert len(files) == 4
    for file in files:
        assert unicodedata.is_normalized("NFC", file.read_text(encoding="utf-8")), file.name


def test_particles_are_glued_to_names(mentions):
    following = [s.text[e.end : e.end + 1] for s, e, _ in mentions if e.label in ("PS", "LC", "OG")]
    glued = [c for c in following if "가" <= c <= "힣" or unicodedata.category(c or " ").startswith("P")]
    assert len(glued) >= 0.55 * len(following)  # 0.65 in KLUE-NER, half of it reviews too


def test_entities_begin_and_end_with_no_space(mentions):
    assert [surface for _, _, surface in mentions if surface != surface.strip()] == []


def test_sentences_begin_and_end_with_no_space(sentences):
    assert [s.text for s in sentences if s.text != s.text.strip()] == []


def test_marks_are_all_of_known_types(sentences):
    lines = [line for file in sample_folder().glob("*.txt") for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted(write_inline(s.text, s.entities) for s in sentences) == sorted(lines)


@pytest.mark.parametrize(("file", "words"), [("GUIDELINES.md", TYPES), ("LICENSE", ["CC BY 4.0"])])
def test_guidelines_and_licence_ship_with_it(file, words):
    content = (sample_folder() / file).read_text(encoding="utf-8")
    assert [word for word in words if word not in content] == []


def test_no_sentence_is_one_of_klue_s(sentences, shared):
    klue = read_checked(read_source(str(shared / "klue-ner" / "tsv"), "ner", None))
    taken = {unspaced(s.text) for found in klue.values() for s in found}
    assert [s.text for s in sentences if unspaced(s.text) in taken] == []
