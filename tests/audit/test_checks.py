import pytest

from koner.audit.checks import run_checks, trimmed_candidates
from koner.audit.particles import particle_after, without_particle
from koner.labels.bio import Entity
from tests.audit.corpus import sentences

SEOUL = ["<서울:LC>에 갔다.", "<서울:LC>은 크다.", "나는 <서울:LC>이 좋다."]


def found(*lines):
    """The candidates of lines: check, sentence, annotated and suggested."""
    return [(c.check, c.id, c.annotated, c.suggested) for c in run_checks(sentences(*lines))]


def test_a_corpus_that_agrees_with_itself_has_no_candidates():
    assert found(*SEOUL, "아무도 없다.") == []


def test_the_rarer_type_of_a_surface_is_doubted():
    (candidate,) = run_checks(sentences(*SEOUL, "<서울:OG>을 떠났다."))
    assert (candidate.check, candidate.id, candidate.kind) == ("surface", "4", "type")
    assert (candidate.annotated, candidate.suggested) == (Entity(0, 2, "OG"), Entity(0, 2, "LC"))
    assert candidate.score == pytest.approx(3 / 5)
    assert candidate.note == "LC in 3 of 4 places"


def test_two_types_that_are_as_frequent_are_not_doubted():
    assert found("<서울:LC>에 갔다.", "<서울:OG>은 말했다.") == []


def test_a_word_that_is_an_entity_elsewhere_is_doubted():
    assert found(*SEOUL, "서울에서 왔다.") == [("unmarked", "4", None, Entity(0, 2, "LC"))]


@pytest.mark.parametrize(
    "line",
    [
        "서울역사를 배웠다.",  # a part of another word
        "남서울은 멀다.",
        "<서울역:LC>은 크다.",  # a part of another entity
        "나는 <서울 사람:PS>이다.",
    ],
)
def test_a_part_of_a_longer_word_or_entity_is_not_doubted(line):
    assert [c for c in found(*SEOUL, line) if c[0] == "unmarked"] == []


def test_what_is_mostly_not_annotated_is_not_doubted():
    assert found("<가을:DT>이 왔다.", "가을이 갔다.", "가을은 짧다.") == []


def test_the_longest_surface_counts():
    lines = [*["<서울 시청:OG>은 말했다."] * 2, "<서울:LC>에 갔다.", "<서울:LC>은 크다.", "서울 시청은 멀다."]
    assert [c for c in found(*lines) if c[0] == "unmarked"] == [("unmarked", "5", None, Entity(0, 5, "OG"))]


def test_a_name_with_its_particle_is_doubted():
    assert found(*SEOUL, "<서울은:LC> 넓다.") == [("particle", "4", Entity(0, 3, "LC"), Entity(0, 2, "LC"))]


@pytest.mark.parametrize("line", ["<서울는:LC> 넓다.", "<서울은:OG> 넓다.", "<서울특:LC>은 넓다."])
def test_another_form_type_or_ending_is_no_particle(line):
    assert [c for c in found(*SEOUL, line) if c[0] == "particle"] == []


def test_the_same_text_with_another_annotation_is_doubted():
    lines = ["<서울:LC>에 갔다."] * 2 + ["<서울에:LC> 갔다."]
    twice = [c for c in found(*lines) if c[0] == "twice"]
    assert twice == [("twice", "3", Entity(0, 3, "LC"), Entity(0, 2, "LC"))]


def test_of_two_equal_texts_both_are_doubted():
    twice = [c for c in found("<갑돌이:PS>가 갔다.", "갑돌이가 갔다.") if c[0] == "twice"]
    assert twice == [("twice", "1", Entity(0, 3, "PS"), None), ("twice", "2", None, Entity(0, 3, "PS"))]


@pytest.mark.parametrize(
    ("line", "suggested"),
    [
        ("채수빈<(21:QT>)씨", Entity(4, 6, "QT")),
        ("<「일지매:PS>」를 읽었다.", Entity(1, 4, "PS")),
        ("<삼성(주:OG>)", Entity(0, 2, "OG")),
    ],
)
def test_half_a_pair_of_brackets_is_doubted(line, suggested):
    (candidate,) = [c for c in run_checks(sentences(line)) if c.check == "bracket"]
    assert candidate.suggested == suggested


@pytest.mark.parametrize("line", ["<(주)플로섬:OG>은 말했다.", "<900’:QT>에서 달렸다."])
def test_a_pair_of_brackets_and_an_apostrophe_are_not_doubted(line):
    assert found(line) == []


def test_white_space_that_was_trimmed_is_doubted():
    changes = [
        {"change": "trimmed", "id": "1", "detail": "PS '홍 ' begins or ends with white space"},
        {"change": "trimmed", "id": "elsewhere", "detail": ""},
        {"change": "repaired_tags", "id": "1", "detail": ""},
    ]
    (candidate,) = trimmed_candidates(changes, {"1": "홍 씨"})
    assert (candidate.check, candidate.kind, candidate.note) == ("white space", "boundary", changes[0]["detail"])


@pytest.mark.parametrize(
    ("text", "particle"),
    [("서울에서 ", "에서"), ("서울은", "은"), ("서울는", None), ("서울 은", None), ("서울특별시", None)],
)
def test_a_particle_ends_its_word_and_fits_the_word_before_it(text, particle):
    assert particle_after(text, 2) == particle


def test_every_particle_that_a_word_may_end_with_is_tried():
    assert set(without_particle("서울에서의")) == {"서울", "서울에서"}
    assert without_particle("은") == []
