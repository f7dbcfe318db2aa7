import numpy as np
import pytest

from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.pretraining import weak_labels
from koner.pretraining.weak_labels import weak_entities, weak_tag_ids
from koner.text.morphemes import AnalysedText


@pytest.fixture
def label(monkeypatch):
    """A function that labels a text with given names and doubtful spans."""

    def run(text, names, doubtful):
        monkeypatch.setattr(weak_labels, "find_names", lambda analysed: (list(names), list(doubtful)))
        return AnalysedText(text, ())

    return run


def test_tags_are_those_of_entities_and_doubtful_characters_have_none(label):
    analysed = label("서울에서 애플 3개", [Entity(0, 2, "LC")], [(5, 7)])
    tags = [KLUE.id_to_tag.get(int(i), "?") for i in weak_tag_ids(analysed)]
    assert tags == ["B-LC", "I-LC", "O", "O", "O", "?", "?", "O", "B-QT", "I-QT"]
    assert weak_tag_ids(analysed).dtype == np.int8


def test_of_overlapping_entities_the_longer_counts(label):
    analysed = label("119구조대 출동", [Entity(0, 6, "OG")], [])
    assert weak_entities(analysed) == ([Entity(0, 6, "OG")], [(0, 4)])


def test_a_doubtful_span_does_not_remove_an_entity(label):
    tags = weak_tag_ids(label("서울", [Entity(0, 2, "LC")], [(0, 2)]))
    assert [KLUE.id_to_tag[int(i)] for i in tags] == ["B-LC", "I-LC"]


def test_an_empty_text_has_no_tags(label):
    assert len(weak_tag_ids(label("", [], []))) == 0
