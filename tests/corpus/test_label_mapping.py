"""The labels of a corpus: found or declared, renamed and dropped."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.corpus.checks import RawSentence, check
from koner.corpus.label_files import read_labels, write_labels
from koner.corpus.label_mapping import LabelMapping
from koner.corpus.style_file import copy_styles
from koner.errors import KonerError
from koner.labels.bio import Entity, bio_to_entities
from koner.labels.label_set import LabelSet

LINES = ["<홍길동:PS_NAME><서울:LCP_CITY>에 <3명:QT_MAN>", "<김:PS_NAME> <개:PS_PET>", "비가 온다"]


def sentences(lines=LINES):
    return [check(RawSentence("file:1", str(i), annotated=line)) for i, line in enumerate(lines)]


def mapped(label_map, declared=None, lines=LINES):
    mapping = LabelMapping(label_map, declared)
    return list(mapping.apply(sentences(lines))), mapping


def test_without_a_map_the_labels_of_the_corpus_are_found_and_sorted():
    result, mapping = mapped(None)
    assert result == sentences()
    assert mapping.label_set().types == ("LCP_CITY", "PS_NAME", "PS_PET", "QT_MAN")
    assert mapping.metrics() == {}


def test_the_first_pattern_that_matches_counts_and_null_drops():
    result, mapping = mapped({"PS_PET": None, "PS_*": "PS", "LC*": "PS", "*": "나머지"})
    assert [s.entities for s in result] == [
        # Neighbours that get one label stay separate.
        (Entity(0, 3, "PS"), Entity(3, 5, "PS"), Entity(7, 9, "나머지")),
        (Entity(0, 1, "PS"),),
        (),
    ]
    assert result[0].tags[:5] == ("B-PS", "I-PS", "I-PS", "B-PS", "I-PS")
    assert all(tuple(bio_to_entities(s.tags)) == s.entities for s in result)
    assert mapping.label_set().types == ("PS", "나머지")
    assert mapping.metrics() == {
        "label_map": {
            "dropped": 1,
            "labels": {
                "LCP_CITY": {"to": "PS", "entities": 1},
                "PS_NAME": {"to": "PS", "entities": 2},
                "PS_PET": {"to": None, "entities": 1},
                "QT_MAN": {"to": "나머지", "entities": 1},
            },
        }
    }


@pytest.mark.parametrize(
    ("label_map", "declared", "message"),
    [
        ({"QT_*": "QT"}, None, "label_map: no pattern matches PS_NAME (2), LCP_CITY (1), PS_PET (1)"),
        ({"ps_*": "PS", "*": None, "": "PS"}, None, "source: no sentence has an annotated entity; label_map drops all"),
        (None, ["PS_NAME", "X"], "labels: the corpus has labels that are not declared: LCP_CITY (1), PS_PET (1), QT_"),
    ],
)
def test_labels_that_have_no_place_are_reported_with_their_counts(label_map, declared, message):
    _, mapping = mapped(label_map, declared)
    with pytest.raises(KonerError) as error:
        mapping.label_set()
    assert str(error.value).startswith(message)


def test_a_corpus_without_entities_is_refused():
    with pytest.raises(KonerError, match=r"^source: no sentence has an annotated entity$"):
        mapped(None, lines=["비가 온다"])[1].label_set()


def test_declared_labels_need_not_occur():
    _, mapping = mapped({"*": "PS"}, ["TI", "PS"])
    assert mapping.label_set().types == ("PS", "TI")


def test_a_label_in_two_normalization_forms_is_one():
    decomposed = unicodedata.normalize("NFD", "인명")
    result, mapping = mapped(None, lines=[f"<김:{decomposed}>", "<이:인명>"])
    assert mapping.label_set().types == ("인명",)
    assert result[0].entities == (Entity(0, 1, "인명"),)
    assert mapped({decomposed: "PS"}, lines=["<이:인명>"])[1].label_set().types == ("PS",)


@given(st.lists(st.text("ABC_-*가", min_size=1, max_size=6), min_size=1, unique=True))
def test_a_label_set_survives_its_file(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    write_labels(path, LabelSet.of(names))
    assert read_labels(path) == LabelSet.of(names)


@pytest.mark.parametrize("content", [None, "", "[]", '{"labels": []}', '{"labels": ["O"]}', '{"labels": 3}'])
def test_a_file_without_a_label_set_is_reported(tmp_path, content):
    path = tmp_path / "labels.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KonerError, match=r"labels\.json (is missing|holds no label set); run `dvc repro`"):
        read_labels(path)


def test_the_styles_beside_a_corpus_are_copied_and_checked(tmp_path):
    corpus, folder = tmp_path / "corpus", tmp_path / "folder"
    corpus.mkdir()
    folder.mkdir()
    labels = LabelSet.of(["PS"])
    assert copy_styles(str(corpus), folder, labels) == []
    (corpus / "labels.yaml").write_text("PS: {en: person}\nOTHER: {en: other}\n")
    (corpus / "all.txt").write_text("")
    assert copy_styles(str(corpus / "all.txt"), folder, labels) == ["OTHER"]
    assert (folder / "labels.yaml").read_bytes() == (corpus / "labels.yaml").read_bytes()
    (corpus / "labels.yaml").write_text("PS: {color: red}\n")
    with pytest.raises(KonerError, match=r"labels\.yaml: PS: color: 'red' is not allowed"):
        copy_styles(str(corpus), folder, labels)
