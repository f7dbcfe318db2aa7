import re
import unicodedata
from collections import Counter

import pytest

from koner.corpus.inline import write_inline
from koner.corpus.sources import read_checked, read_source
from koner.labels.klue import KLUE
from koner.resources import SAMPLE_CORPUS


@pytest.fixture(scope="module")
def parts():
    return read_checked(read_source("sample", "ner", None))


@pytest.fixture(scope="module")
def sentences(parts):
    return parts["train"] + parts["validation"]


@pytest.fixture(scope="module")
def mentions(sentences):
    """Each entity with its sentence and its surface."""
    return [(s, e, s.text[e.start : e.end]) for s in sentences for e in s.entities]


def letters(text):
    """Return a text without spaces and punctuation."""
    return re.sub(r"[\W_]", "", text)


def unspaced(text):
    return re.sub(r"\s", "", text)


def mask_entities(sentence):
    """Return the text of a sentence with each entity replaced by its type."""
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
    assert len(sentences) >= 6800


def test_news_and_reviews_are_balanced(parts):
    for sentences in (parts["train"], parts["validation"], parts["train"] + parts["validation"]):
        assert 0.4 <= sum(s.source == "news" for s in sentences) / len(sentences) <= 0.6
        assert {s.source for s in sentences} == {"news", "reviews"}


@pytest.mark.parametrize("type_", KLUE.types)
def test_every_type_occurs_often(mentions, type_):
    assert sum(e.label == type_ for _, e, _ in mentions) >= 250


def test_no_sentence_occurs_twice(sentences):
    assert repeated(letters(s.text) for s in sentences) == []


def test_some_sentences_have_no_entity(sentences):
    assert sum(not s.entities for s in sentences) >= 0.05 * len(sentences)


@pytest.mark.parametrize("script", [pytest.param(r"[\u4e00-\u9fff]", id="Hanja"), pytest.param("[A-Za-z]", id="Latin")])
def test_other_scripts_occur(sentences, mentions, script):
    assert any(re.search(script, s.text) for s in sentences)
    assert any(re.search(script, surface) for _, _, surface in mentions)


def test_at_most_half_of_the_validation_surfaces_occur_in_train(parts):
    validation = surfaces(parts["validation"])
    assert len(validation & surfaces(parts["train"])) <= len(validation) / 2


def test_hardly_any_sentences_differ_in_their_entities_only(sentences):
    masks = [letters(mask_entities(s)) for s in sentences]
    assert len(masks) - len(set(masks)) <= 0.01 * len(masks)


def test_everything_is_nfc(sentences):
    files = sorted(SAMPLE_CORPUS.glob("*.txt"))
    assert len(files) == 4
    for file in files:
        assert unicodedata.is_normalized("NFC", file.read_text(encoding="utf-8")), file.name


def test_particles_are_glued_to_names(mentions):
    following = [s.text[e.end : e.end + 1] for s, e, _ in mentions if e.label in ("PS", "LC", "OG")]
    glued = [c for c in following if "가" <= c <= "힣" or unicodedata.category(c or " ").startswith("P")]
    assert len(glued) >= 0.55 * len(following)  # 0.65 in KLUE-NER, half of it reviews too


def test_entities_have_no_space_at_their_ends(mentions):
    assert [surface for _, _, surface in mentions if surface != surface.strip()] == []


@pytest.mark.parametrize(
    ("types", "beyond"),
    [
        pytest.param(("DT", "TI"), r"[시분월일년]\s?(께|쯤|경)$", id="about"),
        pytest.param(("DT",), "^(오는 |(매일|매주|매달|매년|당일)$)", id="coming and each"),
        pytest.param(("QT",), "^(약|총|최대) ", id="words before a quantity"),
        pytest.param(("LC",), " (지역|일대|인근|방면|도심|시내)$", id="words after a place"),
        pytest.param(("PS",), " (씨|군|님|감독|대표|의원|교수|회장|장관|대통령|총리)$", id="titles"),
    ],
)
def test_no_entity_holds_what_the_guidelines_leave_out(mentions, types, beyond):
    assert [surface for _, e, surface in mentions if e.label in types and re.search(beyond, surface)] == []


def test_a_country_before_a_common_noun_is_a_place(sentences):
    countries, nouns = "한국|미국|일본|중국|홍콩|대만|독일|프랑스|할리우드", "영화|드라마|애니|배우|매체|언론|시각"
    found = [(s, m.span(1)) for s in sentences for m in re.finditer(f"({countries}) ?(?={nouns})", s.text)]
    assert len(found) >= 20
    missed = [s.text for s, span in found if not any(e.start <= span[0] and span[1] <= e.end for e in s.entities)]
    assert missed == []


def test_sentences_have_no_space_at_their_ends(sentences):
    assert [s.text for s in sentences if s.text != s.text.strip()] == []


def test_all_marks_have_known_types(sentences):
    lines = [line for file in SAMPLE_CORPUS.glob("*.txt") for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted(write_inline(s.text, s.entities) for s in sentences) == sorted(lines)


@pytest.mark.parametrize(("file", "words"), [("GUIDELINES.md", KLUE.types), ("LICENSE", ["CC BY 4.0"])])
def test_the_corpus_ships_with_guidelines_and_licence(file, words):
    content = (SAMPLE_CORPUS / file).read_text(encoding="utf-8")
    assert [word for word in words if word not in content] == []


def test_no_sentence_is_from_klue(sentences, shared):
    klue = read_checked(read_source(str(shared / "klue-ner" / "tsv"), "ner", None))
    klue_texts = {unspaced(s.text) for part in klue.values() for s in part}
    assert [s.text for s in sentences if unspaced(s.text) in klue_texts] == []
