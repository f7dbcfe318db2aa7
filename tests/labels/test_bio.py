import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.labels.bio import Entity, bio_to_entities, entities_to_bio, first_illegal_tag
from koner.labels.klue import KLUE


def test_tags_are_in_the_order_of_the_hub_dataset():
    assert " ".join(KLUE.tags) == "B-DT I-DT B-LC I-LC B-OG I-OG B-PS I-PS B-QT I-QT B-TI I-TI O"
    assert (KLUE.tag_to_id["B-PS"], KLUE.id_to_tag[12]) == (6, "O")


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
def test_entities_of_tags(tags, entities):
    assert bio_to_entities(tags.split()) == entities


def test_tags_of_entities():
    entities = [Entity(1, 3, "PS"), Entity(3, 4, "PS")]
    assert entities_to_bio(entities, 6) == ["O", "B-PS", "I-PS", "B-PS", "O", "O"]


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
def test_the_first_illegal_tag_is_the_first_i_that_continues_nothing(tags, position):
    assert first_illegal_tag(tags.split()) == position


@st.composite
def disjoint_entities(draw):
    """Entities in order with gaps of 0 or more, and the length of their sequence."""
    entities = []
    position = 0
    for gap, width, label in draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from(KLUE.types)), max_size=8)
    ):
        entities.append(Entity(position + gap, position + gap + width, label))
        position += gap + width
    return entities, position + draw(st.integers(0, 3))


@settings(deadline=None)
@given(disjoint_entities())
def test_entities_survive_conversion_to_tags_and_back(entities_and_length):
    entities, length = entities_and_length
    tags = entities_to_bio(entities, length)
    assert len(tags) == length
    assert first_illegal_tag(tags) is None
    assert bio_to_entities(tags) == entities


@settings(deadline=None)
@given(st.lists(st.sampled_from(KLUE.tags), max_size=12))
def test_exactly_the_legal_sequences_survive_conversion_to_entities_and_back(tags):
    assert (entities_to_bio(bio_to_entities(tags), len(tags)) == tags) == (first_illegal_tag(tags) is None)
