import re
import unicodedata

import pytest

from koner.corpus.checks import FaultReport, RawSentence, check, check_all
from koner.corpus.sentences import Sentence
from koner.errors import KonerError
from koner.labels.bio import Entity


def nfd(text):
    return unicodedata.normalize("NFD", text)


def tagged(text, tags, annotated=None):
    return RawSentence("file:1", "id", None, list(text), tags.split(), annotated)


def inline(annotated):
    return RawSentence("file:1", "id", annotated=annotated)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(
            RawSentence("file:1", "id"), "neither characters with tags nor an annotated sentence", id="no form at all"
        ),
        pytest.param(
            inline("<서울:O>에서"),
            "'<서울:O>' is not a mark of an entity, such as <서울:LC>",
            id="unknown type in a mark",
        ),
        pytest.param(inline("<서울:X X>에서"), "'<서울:X X>' is not a mark of an entity", id="white space in a type"),
        pytest.param(inline("<서울:LC>에서 <부산"), "'<' is not a mark of an entity", id="half a mark"),
        pytest.param(tagged("서울에", "B-LC I-LC"), "2 tags for 3 characters", id="too few tags"),
        pytest.param(tagged("서울", "B-LC I-LC O"), "3 tags for 2 characters", id="too many tags"),
        pytest.param(tagged(["서", "울에"], "B-LC I-LC"), "token 2 is '울에', not one character", id="long token"),
        pytest.param(tagged(["서", ""], "B-LC I-LC"), "token 2 is '', not one character", id="empty token"),
        pytest.param(
            tagged("서울", "B-LC X-LC"),
            "the tag 'X-LC' on character 2 '울' is not O,",
            id="unknown tag",
        ),
        pytest.param(
            tagged("에서울", "O I-LC I-LC"), "tag 'I-LC' on character 2 '서' continues no entity", id="I without B"
        ),
        pytest.param(
            tagged("김서울", "B-PS I-LC I-LC"), "tag 'I-LC' on character 2 '서' continues no entity", id="I after B"
        ),
        pytest.param(
            tagged("서울", "B-LC I-LC", "<부산:LC>"),
            "the annotated sentence reads '부산' but its characters spell '서울'",
            id="other characters",
        ),
        pytest.param(
            tagged("서울", "B-LC I-LC", "<서울:OG>"),
            "the annotated sentence and the tags disagree on the entities",
            id="other type",
        ),
        pytest.param(
            tagged("서울시", "B-LC I-LC O", "<서울시:LC>"),
            "the annotated sentence and the tags disagree on the entities",
            id="other end",
        ),
        pytest.param(
            tagged(["서", "울\u200b"], "B-LC I-LC"), "token 2 is '울\\u200b', not one character", id="invisible"
        ),
        pytest.param(
            tagged([nfd("서"), nfd("울")], "B-LC X-XX"), "character 2 '울' (U+110B U+116E U+11AF)", id="code points"
        ),
        pytest.param(
            tagged("서울", "B-LC I-LC", nfd("부산")), "reads '부산' but its characters spell '서울'", id="decomposed"
        ),
        pytest.param(inline(""), "the sentence is empty", id="empty"),
        pytest.param(tagged(" \u3000", "O O"), "the sentence is empty", id="blank"),
        pytest.param(
            tagged(nfd("서울"), "B-LC I-LC I-LC I-LC O"),
            "begins or ends inside a composed character",
            id="ends inside a syllable",
        ),
        pytest.param(
            tagged(nfd("서울"), "O B-LC I-LC I-LC I-LC"),
            "begins or ends inside a composed character",
            id="begins inside a syllable",
        ),
        pytest.param(
            tagged("e\u0301", "B-PS B-PS"), "begins or ends inside a composed character", id="two in one character"
        ),
    ],
)
def test_a_fault_is_described(raw, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(inline("<서울:LC>에서 <3일:DT>"), id="inline only"),
        pytest.param(tagged("서울에서 3일", "B-LC I-LC O O O B-DT I-DT"), id="tags only"),
        pytest.param(tagged("서울에서 3일", "B-LC I-LC O O O B-DT I-DT", "<서울:LC>에서 <3일:DT>"), id="both"),
        pytest.param(inline(nfd("<서울:LC>에서 <3일:DT>")), id="decomposed inline"),
        pytest.param(tagged("서울에서 3일", "B-LC I-LC O O O B-DT I-DT", "서울에서 3일"), id="without marks"),
        pytest.param(
            tagged([nfd(c) for c in "서울에서 3일"], "B-LC I-LC O O O B-DT I-DT", "<서울:LC>에서 <3일:DT>"),
            id="decomposed tokens",
        ),
        pytest.param(
            tagged(nfd("서울에서 3일"), "B-LC" + " I-LC" * 4 + " O" * 5 + " B-DT" + " I-DT" * 3), id="decomposed"
        ),
    ],
)
def test_all_forms_of_a_sentence_are_equal_after_the_check(raw):
    assert check(raw) == Sentence(
        "id",
        "서울에서 3일",
        None,
        ("B-LC", "I-LC", "O", "O", "O", "B-DT", "I-DT"),
        (Entity(0, 2, "LC"), Entity(5, 7, "DT")),
    )


def test_only_the_first_code_point_of_a_composed_run_has_a_b_tag():
    # The sentence is composed because of the decomposed syllable; q and its two marks remain three code points.
    sentence = check(tagged("q\u0323\u0301" + nfd("가"), "B-PS I-PS I-PS O O"))
    assert sentence.text == "q\u0323\u0301가"
    assert sentence.tags == ("B-PS", "I-PS", "I-PS", "O")
    assert sentence.entities == (Entity(0, 3, "PS"),)


def test_the_tags_decide_on_a_bracket_inside_an_entity():
    sentence = check(tagged("<10>점", "B-QT I-QT I-QT O O", "<<10:QT>>점"))
    assert sentence.entities == (Entity(0, 3, "QT"),)


def test_valid_sentences_are_yielded_and_the_faults_of_others_reported():
    raws = [
        RawSentence("a.tsv:1", "one", annotated="서울"),
        RawSentence("a.tsv:5", "two", annotated=""),
        RawSentence("a.tsv:9", "one", annotated="부산"),
    ]
    faults = FaultReport()
    assert [sentence.text for sentence in check_all(raws, faults)] == ["서울"]
    assert faults.count == 2
    assert faults.shown == ["a.tsv:5: two: the sentence is empty", "a.tsv:9: one: the id is used already at a.tsv:1"]


def test_a_report_without_faults_raises_nothing():
    FaultReport().raise_if_any()


def test_one_fault_is_one_sentence():
    faults = FaultReport()
    faults.add("a.tsv:1", "", "is odd")
    with pytest.raises(KonerError) as error:
        faults.raise_if_any()
    assert str(error.value) == "a.tsv:1: is odd"


@pytest.mark.parametrize(("count", "ending"), [(20, "a.tsv:20: is odd"), (25, "… and 5 more")])
def test_twenty_faults_are_shown_and_all_are_counted(count, ending):
    faults = FaultReport()
    for number in range(1, count + 1):
        faults.add(f"a.tsv:{number}", "", "is odd")
    with pytest.raises(KonerError) as error:
        faults.raise_if_any()
    message = str(error.value)
    assert message.startswith(f"{count} faults in the source:")
    assert message.count("is odd") == 20
    assert message.endswith(ending)


def test_a_repeated_id_is_found_among_thousands():
    raws = [RawSentence(f"a.tsv:{i}", f"id-{i % 3000}", annotated="서울") for i in range(3001)]
    faults = FaultReport()
    assert len(list(check_all(raws, faults))) == 3000
    assert faults.shown == ["a.tsv:3000: id-0: the id is used already at a.tsv:0"]
