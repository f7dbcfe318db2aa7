import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.boundaries import LABELS, may_follow, parts_of, tag_of, token_label
from koner.decoding import token_entities
from koner.labels import TAGS, TYPES, Entity, entities_of, tags_of


def test_the_tags_are_the_first_labels():
    assert LABELS[: len(TAGS)] == TAGS
    assert len(set(LABELS)) == len(LABELS) == 13 + 12 * 3
    assert {tag_of(label) for label in LABELS} == set(TAGS)


@pytest.mark.parametrize(
    ("tags", "label"),
    [
        (["O"], "O"),
        (["O", "B-PS"], "O"),
        (["B-PS", "I-PS"], "B-PS"),
        (["I-PS", "O"], "I-PS/cut1"),
        (["B-LC", "I-LC", "O", "O"], "B-LC/cut2"),
        (["B-LC", "O", "O", "O"], "B-LC"),
        (["B-LC", "O", "B-LC"], "B-LC"),
        (["B-LC", "B-LC"], "B-LC/two"),
        (["I-OG", "I-OG", "B-OG", "I-OG"], "I-OG/two"),
        (["B-LC", "B-OG"], "B-LC"),
        (["B-LC", "B-LC", "I-LC"], "B-LC"),
        (["B-LC", "I-OG"], "B-LC"),
    ],
)
def test_a_label_says_where_in_the_token_the_entity_ends(tags, label):
    assert token_label(tags) == label


@pytest.mark.parametrize(
    ("label", "span", "parts"),
    [
        ("I-PS", (3, 5), [("I-PS", (3, 5))]),
        ("I-PS/cut1", (3, 5), [("I-PS", (3, 4)), ("O", (4, 5))]),
        ("B-LC/two", (3, 5), [("B-LC", (3, 4)), ("B-LC", (4, 5))]),
        ("I-LC/two", (0, 4), [("I-LC", (0, 2)), ("B-LC", (2, 4))]),
        # A model may give a token a shape that it is too short for.
        ("B-PS/cut1", (3, 4), [("B-PS", (3, 4))]),
        ("B-PS/cut2", (3, 5), [("B-PS", (3, 5))]),
        ("B-PS/two", (3, 4), [("B-PS", (3, 4))]),
        ("B-PS/cut1", (3, 3), [("B-PS", (3, 3))]),
    ],
)
def test_a_label_takes_its_token_apart(label, span, parts):
    assert parts_of(label, span) == parts


def test_entities_end_inside_tokens():
    text = "유오성이 북미에"
    offsets = [(0, 2), (2, 4), (5, 7), (7, 8)]
    labels = ["B-PS", "I-PS/cut1", "B-LC/two", "O"]
    found = token_entities(labels, offsets)
    assert [(text[e.start : e.end], e.label, tokens) for e, tokens in found] == [
        ("유오성", "PS", (0, 2)),
        ("북", "LC", (2, 3)),
        ("미", "LC", (2, 3)),
    ]


@given(st.data())
def test_what_one_shape_can_say_comes_back_exactly(data):
    """Tokens of which each holds one entity from its start, one or two characters after it left out."""
    length = data.draw(st.integers(1, 6))
    cut = data.draw(st.integers(0, min(2, length - 1)))
    type_ = data.draw(st.sampled_from(TYPES))
    entity = Entity(0, length - cut, type_)
    label = token_label(tags_of([entity], length))
    assert [e for e, _ in token_entities([label], [(0, length)])] == [entity]


@given(st.lists(st.sampled_from(LABELS), max_size=8))
def test_a_sequence_is_legal_where_its_parts_are(labels):
    legal = all(map(may_follow, ["O", *labels], labels))
    spans = [(4 * i, 4 * i + 4) for i in range(len(labels))]
    tags = [tag for label, span in zip(labels, spans, strict=True) for tag, _ in parts_of(label, span)]
    # A legal sequence has as many entities as B tags.
    assert legal <= (len(entities_of(tags)) == sum(tag[0] == "B" for tag in tags))
    assert legal == all(tag[0] != "I" or (i > 0 and tags[i - 1][2:] == tag[2:]) for i, tag in enumerate(tags))
