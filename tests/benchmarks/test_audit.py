from collections import Counter

import pytest

from benchmarks.audit_orders import Item, PlantedIndex
from benchmarks.damage import KINDS, damage, repair
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from tests.audit.corpus import sentences

CORPUS = sentences(*(f"<이름{i}:PS>은 <도시{i}:LC>에서 <회사{i}:OG>의 물건을 봤다." for i in range(40)))


@pytest.fixture(scope="module")
def damaged():
    return damage(CORPUS, KLUE, 0.1, seed=1)


def test_as_many_errors_of_each_kind_are_planted(damaged):
    corpus, planted = damaged
    assert Counter(error.kind for error in planted) == dict.fromkeys(KINDS, 3)
    for error in planted:
        entities = corpus[error.sentence].entities
        assert error.original is None or error.original not in entities
        assert error.damaged is None or error.damaged in entities


def test_what_is_planted_is_of_its_kind(damaged):
    for error in damaged[1]:
        text, original, new = CORPUS[error.sentence].text, error.original, error.damaged
        if error.kind == "moved":
            assert text[original.end : new.end] in ("은", "에서", "의")
            assert (new.start, new.label) == (original.start, original.label)
        elif error.kind == "retyped":
            assert (new.start, new.end) == (original.start, original.end)
            assert new.label != original.label
        elif error.kind == "invented":
            assert text[new.start : new.end] in ("에서", "물건", "봤다")


def test_the_seed_decides_the_damage_and_a_repair_undoes_it(damaged):
    corpus, planted = damaged
    assert damage(CORPUS, KLUE, 0.1, seed=1) == (corpus, planted)
    assert damage(CORPUS, KLUE, 0.1, seed=2)[1] != planted
    assert repair(corpus, planted) == CORPUS
    assert sum(a != b for a, b in zip(repair(corpus, planted[:6]), CORPUS, strict=True)) > 0


def test_a_candidate_finds_the_error_in_its_place(damaged):
    _, planted = damaged
    index = PlantedIndex(planted, CORPUS)
    dropped = next(error for error in planted if error.kind == "dropped")
    moved = next(error for error in planted if error.kind == "moved")
    nearby = Entity(dropped.original.start, dropped.original.end + 1, "DT")
    items = [
        Item(CORPUS[dropped.sentence].id, None, nearby, True, 0, 0),
        Item(CORPUS[moved.sentence].id, moved.damaged, None, True, 0, 0),
        Item(CORPUS[moved.sentence].id, moved.original, None, True, 0, 0),
        Item("elsewhere", None, nearby, True, 0, 0),
    ]
    found = index.find(items)
    assert found == [dropped, moved, None, None]
    assert (index.recall(found), index.recall(found, "moved")) == (pytest.approx(2 / 12), pytest.approx(1 / 3))
