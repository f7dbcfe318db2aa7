"""The consultation corpus, by the standards of the sample corpus."""

from collections import Counter

import pytest

from koner.corpus.inline import write_inline
from koner.corpus.sources import read_checked, read_source
from koner.resources import CONSULT_CORPUS
from tests.corpus.test_sample import letters, mask_entities, repeated, surfaces

TYPES = ("5GPLN", "MVAS", "ORG", "PS", "LC", "DT", "QT")


@pytest.fixture(scope="module")
def parts():
    return read_checked(read_source("consult", "ner", None))


@pytest.fixture(scope="module")
def utterances(parts):
    return parts["train"] + parts["validation"]


def test_there_are_enough_utterances_of_both_kinds(utterances):
    counts = Counter(u.source for u in utterances)
    assert set(counts) == {"calls", "chat"}
    assert counts.total() >= 800
    assert min(counts.values()) >= 0.4 * counts.total()


def test_the_three_types_of_the_domain_are_balanced(parts):
    for utterances in parts.values():
        counts = Counter(e.label for u in utterances for e in u.entities)
        assert set(counts) == set(TYPES)
        domain = [counts[type_] for type_ in ("5GPLN", "MVAS", "ORG")]
        assert max(domain) <= 1.4 * min(domain)


@pytest.mark.parametrize("type_", TYPES)
def test_every_type_occurs_often_with_many_names(utterances, type_):
    mentions = [u.text[e.start : e.end] for u in utterances for e in u.entities if e.label == type_]
    assert len(mentions) >= 100
    assert len(set(mentions)) >= 60


def test_no_utterance_occurs_twice(utterances):
    assert repeated(letters(u.text) for u in utterances) == []


def test_no_utterances_differ_in_their_entities_only(utterances):
    # Very short answers, such as an amount alone, may.
    masks = [letters(mask_entities(u)) for u in utterances if len(letters(u.text)) > 8]
    assert len(masks) - len(set(masks)) <= 0.01 * len(masks)


def test_some_utterances_have_no_entity(utterances):
    assert sum(not u.entities for u in utterances) >= 0.1 * len(utterances)


def test_at_most_half_of_the_validation_surfaces_occur_in_train(parts):
    validation = surfaces(parts["validation"])
    assert len(validation & surfaces(parts["train"])) <= len(validation) / 2


def test_all_marks_have_known_types(utterances):
    files = sorted(CONSULT_CORPUS.glob("*.txt"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(files) == 4
    assert sorted(write_inline(u.text, u.entities) for u in utterances) == sorted(lines)


def test_entities_have_neither_titles_nor_spaces_at_their_ends(utterances):
    mentions = [(e.label, u.text[e.start : e.end]) for u in utterances for e in u.entities]
    assert [
        m for label, m in mentions if m != m.strip() or (label == "PS" and m.endswith((" 고객님", " 님", " 씨")))
    ] == []


@pytest.mark.parametrize(
    ("file", "words"), [("GUIDELINES.md", TYPES), ("LICENSE", ["CC BY 4.0"]), ("labels.yaml", TYPES)]
)
def test_the_corpus_ships_with_guidelines_licence_and_names(file, words):
    content = (CONSULT_CORPUS / file).read_text(encoding="utf-8")
    assert [word for word in words if word not in content] == []
