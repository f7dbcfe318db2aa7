"""The names and colours of labels."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.errors import KonerError
from koner.labels.colours import (
    DARK_PAGE,
    DARK_TEXT,
    LIGHT_PAGE,
    LIGHT_TEXT,
    MIN_CONTRAST,
    contrast,
    distinct_colours,
    lighten,
    shades,
)
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.labels.styles import read_styles, stylesheet

COLOURS = st.integers(0, 2**24 - 1).map("#{:06x}".format)


def is_readable(light, dark):
    pairs = [(s.chip, s.chip_text) for s in (light, dark)] + [(light.tint, LIGHT_TEXT), (dark.tint, DARK_TEXT)]
    return all(contrast(*pair) >= MIN_CONTRAST for pair in pairs)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)


@given(COLOURS, COLOURS)
def test_text_is_readable_on_every_colour_that_a_corpus_may_give(light, dark):
    assert is_readable(*shades(light, dark))
    assert is_readable(*shades(light, lighten(light)))


def test_chosen_colours_are_readable_and_seen_on_both_pages():
    for i in range(500):
        light, dark = shades(*distinct_colours(i))
        assert is_readable(light, dark)
        assert min(contrast(light.chip, LIGHT_PAGE), contrast(dark.chip, DARK_PAGE)) >= MIN_CONTRAST


@pytest.mark.parametrize(("count", "distance"), [(6, 0.13), (20, 0.11), (150, 0.017)])
def test_chosen_colours_are_distinct(count, distance):
    for mode in (0, 1):
        channels = [[int(distinct_colours(i)[mode][c : c + 2], 16) / 255 for c in (1, 3, 5)] for i in range(count)]
        distances = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5 for a, b in combinations(channels, 2)]
        assert min(distances) >= distance


def test_the_types_of_klue_have_the_styles_of_the_sample():
    styles = read_styles(None, KLUE)
    assert [(s.label, s.ko, s.en) for s in styles][:3] == [
        ("PS", "인물", "person"),
        ("LC", "장소", "location"),
        ("OG", "기관", "organization"),
    ]
    assert [s.light.chip for s in styles] == ["#a8321a", "#1b6b3a", "#6a3fa0", "#1d5fa8", "#0b6670", "#755000"]
    assert [s.dark.chip for s in styles] == ["#ffab94", "#7fd8a0", "#cdaef7", "#8ec2ff", "#6fd6df", "#f0c76a"]
    # Not so for a corpus with a type of its own, in which LC may mean something else.
    assert [s.ko for s in read_styles(None, LabelSet.of(["LC", "CITY"]))] == ["CITY", "LC"]


def test_everything_in_the_file_is_optional_and_its_order_counts(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text('인명: {en: person, color: "#ABCDEF"}\nOTHER: {ko: 기타}\n5GPLN:\n', encoding="utf-8")
    styles = read_styles(path, LabelSet.of(["5GPLN", "MVAS", "인명"]))
    assert [(s.label, s.ko, s.en) for s in styles] == [
        ("인명", "person", "person"),
        ("5GPLN", "5GPLN", "5GPLN"),
        ("MVAS", "MVAS", "MVAS"),
    ]
    assert (styles[0].light.chip, styles[1].light.chip) == ("#abcdef", distinct_colours(0)[0])
    assert [s.description for s in styles] == ["인명 (person)", "5GPLN", "MVAS"]
    assert stylesheet(styles).count(".t2 {") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- PS", "the top level must be labels, each with `ko`, `en` or `color`"),
        ("PS: 인물", "PS: '인물' must be `ko`, `en` and `color` with their values"),
        ("PS: {name: 인물}", "PS: there is no field 'name'; the fields are ko, en, color"),
        ("PS: {ko: 3}", "PS: ko: 3 is not allowed; it must be a name in Korean, of one line"),
        ('PS: {en: "a\\nb"}', "PS: en: 'a\\nb' is not allowed; it must be a name in English, of one line"),
        ("PS: {color: red}", "PS: color: 'red' is not allowed; it must be a colour such as '#1d5fa8'"),
        ("PS: {color: {light: '#123456'}}", "PS: color: {'light': '#123456'} is not allowed; it must be a colour"),
        ("1: {ko: 일}", "the label 1 is not a text; write it in quotation marks"),
        ("O: {ko: 밖}", "the label 'O' is the tag of what is no entity"),
        ("a b: {}", "the label 'a b' contains white space"),
        ("PS: {", "line 1: not valid YAML"),
    ],
)
def test_a_file_that_is_not_valid_is_reported_in_a_sentence(tmp_path, content, message):
    path = tmp_path / "labels.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(KonerError) as error:
        read_styles(path, KLUE)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
