import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.labels import (
    ID_TO_TAG,
    TAG_TO_ID,
    TAGS,
    TYPES,
    Entity,
    entities_if_legal,
    entities_of,
    first_illegal,
    tags_of,
)


def test_tags_stand_in_the_order_of_the_hub_dataset():
    assert " ".join(TAGS) == "B-DT I-DT B-LC I-LC B-OG I-OG B-PS I-PS B-QT I-QT B-TI I-TI O"
    assert (TAG_TO_ID["B-PS"], ID_TO_TAG[12]) == (6, "O")


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("O O O", [], id="no entity"),
        pytest.param("B-PS I-PS O B-LC", [Entity(0, 2, "PS"), Entity(3, 4, "LC")], id="legal, open at the end"),
        pytest.param("B-LC B-LC I-LC", [Entity(0, 1, "LC"), Entity(1, 3, "LC")], id="adjacent B of one type"),
        pytest.param("B-DT I-DT B-TI I-TI", [Entity(0, 2, "DT"), Entity(2, 4, "TI")], id="adjacent of two types"),
        pytest.param("O I-OG I-OG O", [Entity(1, 3, "OG")], id="I without B"),
        pytest.param("I-OG", [Entity(0, 1, "OG")], id="I at the start"),
        pytest.param("B-PS I-LC I-LC", [Entity(0, 1, "PS"), Entity(1, 3, "LC")], id="I of another type"),
        pytest.param("B-QT O I-QT", [Entity(0, 1, "QT"), Entity(2, 3, "QT")], id="I after a gap"),
    ],
)
def test_entities_are_read_off_tags(tags, entities):
    assert entities_of(tags.split()) == entities


def test_entities_are_written_as_tags():
    entities = [Entity(1, 3, "PS"), Entity(3, 4, "PS")]
    assert tags_of(entities, 6) == ["O", "B-PS", "I-PS", "B-PS", "O", "O"]


@pytest.mark.parametrize(
    ("tags", "position"),
    [
        ("", None),
        ("O B-PS I-PS I-PS O", None),
        ("B-PS B-PS I-PS", None),
        ("I-PS", 0),
        ("B-PS O I-PS", 2),
        ("B-PS I-LC", 1),
        ("B-PS I-PS I-PS I-LC I-LC", 3),
    ],
)
def test_first_illegal_is_the_first_i_that_continues_nothing(tags, position):
    assert first_illegal(tags.split()) == position


@st.composite
def disjoint_entities(draw):
    """A length, and entities that lie in order within it with gaps of 0 or more."""
    entities = []
    position = 0
    for gap, width, label in draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from(TYPES)), max_size=8)
    ):
        entities.append(Entity(position + gap, position + gap + width, label))
        position += gap + width
    return entities, position + draw(st.integers(0, 3))


@settings(deadline=None)
@given(disjoint_entities())
def test_entities_survive_the_trip_to_tags_and_back(drawn):
    entities, length = drawn
    tags = tags_of(entities, length)
    assert len(tags) == length
    assert first_illegal(tags) is None
    assert entities_of(tags) == entities


@settings(deadline=None)
@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_exactly_the_legal_sequences_survive_the_trip_to_entities_and_back(tags):
    assert (tags_of(entities_of(tags), len(tags)) == tags) == (first_illegal(tags) is None)


@given(st.lists(st.sampled_from(TAGS)))
def test_entities_of_legal_tags_alone_are_read_at_once(tags):
    assert entities_if_legal(tags) == (entities_of(tags) if first_illegal(tags) is None else None)


@pytest.mark.parametrize("tag", ["B-XX", "", "o", "b-PS"])
def test_an_unknown_tag_gives_no_entities(tag):
    assert entities_if_legal(["B-PS", tag]) is None
