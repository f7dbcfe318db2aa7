"""Label sets of any names, and their tags."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.labels.bio import Entity, bio_to_entities, entities_to_bio
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet, why_not_a_label

NAMES = st.text(min_size=1, max_size=8).filter(lambda name: why_not_a_label(name) is None)


def test_klue_has_the_order_of_the_class_ids_on_the_hub():
    assert " ".join(KLUE.tags) == "B-DT I-DT B-LC I-LC B-OG I-OG B-PS I-PS B-QT I-QT B-TI I-TI O"
    assert (KLUE.tag_to_id["B-PS"], KLUE.id_to_tag[12], KLUE.type_to_id["PS"]) == (6, "O", 3)
    assert LabelSet.of(["TI", "PS", "QT", "LC", "DT", "OG", "PS"]) == KLUE


@pytest.mark.parametrize("name", ["5GPLN", "PS_NAME", "LCP-CITY", "인명", "-", "B-", "I", "o", "OO", "a/b", "x" * 100])
def test_names_as_people_write_them_are_labels(name):
    assert LabelSet((name,)).tags == (f"B-{name}", f"I-{name}", "O")


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        ((), "there is no label"),
        (("",), "the label '' is empty"),
        (("PS", "O"), "the label 'O' is the tag of what is no entity"),
        (("a b",), "the label 'a b' contains white space"),
        (("a\u3000b",), r"the label 'a\u3000b' contains white space"),
        (("a\x07",), r"the label 'a\x07' contains a character that is not printable"),
        (("a\u200bb",), r"the label 'a\u200bb' contains a character that is not printable"),
        (("<b>",), "the label '<b>' contains '<'"),
        (("A:B",), "the label 'A:B' contains ':'"),
        (("x" * 101,), f"the label '{'x' * 100}' has more than 100 characters"),
        (("PS", "LC", "PS"), "the label 'PS' is there twice"),
    ],
)
def test_what_is_no_label_is_refused_in_a_sentence(types, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        LabelSet(types)


@given(st.lists(NAMES, min_size=1, unique=True))
def test_a_set_is_read_back_from_its_tags(names):
    labels = LabelSet(tuple(names))
    assert LabelSet.from_tags(labels.tags) == labels
    assert LabelSet.from_tags(labels.id_to_tag.values()).id_to_tag == labels.id_to_tag
    assert [labels.tags[i] for i in labels.tag_to_id.values()] == list(labels.tag_to_id)
    assert LabelSet.of(reversed(names)) == LabelSet.of(names)


@given(st.data(), st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_no_two_types_are_mixed_up_whatever_their_names(data, names):
    # Among these are pairs such as `A` and `A-`, or `B` and `B-B`.
    names = [*dict.fromkeys([*names, "A", "A-", "-A", "B-A", "I-A", "O-"])]
    lengths = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(names)), max_size=6))
    entities, position = [], 0
    for gap, length, name in lengths:
        entities.append(Entity(position + gap, position + gap + length, name))
        position += gap + length
    assert bio_to_entities(entities_to_bio(entities, position + 1)) == entities
