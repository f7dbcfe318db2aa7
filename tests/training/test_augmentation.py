import random
import re
import unicodedata

import pytest

from koner.corpus.checks import RawSentence, check
from koner.labels.bio import bio_to_entities
from koner.resources import NAMES
from koner.training.augmentation import Names, augment_sentences, read_names, substitute_entities

SURFACES = {
    "PS": ["영숙", "철수", "김"],
    "LC": ["서울", "제주"],
    "OG": ["검찰"],
    "DT": ["지난해", "3일"],
    "QT": ["10명", "하나"],
    "TI": ["밤"],
}
LISTS = {"PS": ["톰 행크스"], "LC": ["부산", "광주"], "OG": ["정부", "국회"]}
ALLOWED = {
    **{label: {*SURFACES[label], *LISTS.get(label, ())} for label in SURFACES},
    "PS": {*SURFACES["PS"], *LISTS["PS"], "박민서", "박지호"},
}
EXAMPLE_NAMES = Names(SURFACES, LISTS, {"PS": ["박"]}, {"PS": ["민서", "지호"]}, ("DT", "QT", "TI"))
LINES = [
    "<철수:PS>는 <서울:LC>과 <제주:LC>를 <지난해:DT> 지나 <검찰:OG>로 갔다.",
    "<10명:QT>이 <3일:DT> <밤:TI>에 <김:PS>모 씨를 봤다",
    "<서울:LC><제주:LC>",
    "비가 온다",
]


def sentence(annotated, id_="a"):
    return check(RawSentence("file:1", id_, "news", annotated=annotated))


TRAINING = [sentence(line, str(i)) for i, line in enumerate(LINES)]


def augment(original, seed, names=EXAMPLE_NAMES, copy=1):
    return substitute_entities(original, names, random.Random(seed), copy)  # noqa: S311


def surfaces(augmented):
    return [(augmented.text[e.start : e.end], e.label) for e in augmented.entities]


def is_allowed(surface, label):
    return surface in ALLOWED[label] or re.fullmatch({"DT": r"[1-9]일", "QT": r"[1-9]\d명"}.get(label, "$"), surface)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("seed", range(25))
def test_entities_keep_their_number_and_types_and_match_their_offsets(line, seed):
    original = sentence(line)
    augmented = augment(original, seed)
    assert [e.label for e in augmented.entities] == [e.label for e in original.entities]
    assert all(is_allowed(surface, label) for surface, label in surfaces(augmented))
    assert len(augmented.tags) == len(augmented.text)
    assert tuple(bio_to_entities(augmented.tags)) == augmented.entities


@pytest.mark.parametrize("seed", range(25))
def test_only_particles_change_between_entities(seed):
    augmented = augment(TRAINING[0], seed)
    names = [re.escape(surface) for surface, _ in surfaces(augmented)]
    pattern = "{}(은|는) {}(과|와) {}(을|를) {} 지나 {}(으로|로) 갔다\\."
    match = re.fullmatch(pattern.format(*names), augmented.text)
    expected = {
        "영숙": "은",
        "철수": "는",
        "김": "은",
        "톰 행크스": "는",
        "박민서": "는",
        "박지호": "는",
        "서울": "과을로",
        "제주": "와를로",
        "부산": "과을으로",
        "광주": "와를로",
        "검찰": "로",
        "정부": "로",
        "국회": "로",
    }
    person, place, other, _, body = (surface for surface, _ in surfaces(augmented))
    assert match[1] == expected[person]
    assert match[2] == expected[place][0]
    assert match[3] == expected[other][1]
    assert match[4] == expected[body]


def test_all_surfaces_are_drawn():
    pairs = {pair for seed in range(200) for pair in surfaces(augment(TRAINING[0], seed))}
    people = {surface for surface, label in pairs if label == "PS"}
    assert people == ALLOWED["PS"]
    assert {surface for surface, label in pairs if label == "LC"} == {"서울", "제주", "부산", "광주"}
    assert {surface for surface, label in pairs if label == "OG"} == {"검찰", "정부", "국회"}


@pytest.mark.parametrize("seed", range(25))
def test_a_name_of_one_character_is_replaced_by_another_of_one(seed):
    augmented = augment(sentence("<김:PS>모 씨"), seed)
    assert augmented.text == "김모 씨"


@pytest.mark.parametrize("seed", range(25))
def test_digits_are_replaced_by_as_many_digits(seed):
    augmented = augment(sentence("<0.75%:QT>의"), seed, Names({"QT": ["0.75%"]}, {}, numeric_types=("QT",)))
    assert re.fullmatch(r"0\.[1-9]\d%의", augmented.text)


def test_an_augmented_sentence_keeps_its_source_and_numbers_its_copy():
    augmented = augment(sentence("<철수:PS>는", "train-3"), 1, copy=2)
    assert (augmented.id, augmented.source) == ("train-3+2", "news")


def test_each_sentence_with_entities_is_copied():
    augmented = list(augment_sentences(TRAINING, EXAMPLE_NAMES, 3, 1))
    assert [s.id for s in augmented] == [f"{i}+{copy}" for copy in (1, 2, 3) for i in (0, 1, 2)]


def test_no_copies_yield_no_sentences():
    assert list(augment_sentences(TRAINING, EXAMPLE_NAMES, 0, 1)) == []


def test_the_seed_determines_the_sentences():
    first, again, other = (list(augment_sentences(TRAINING, EXAMPLE_NAMES, 3, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_names_are_read_from_the_training_part_and_the_lists(tmp_path):
    (tmp_path / "PS.txt").write_text("톰 행크스\n아이유\n", encoding="utf-8")
    (tmp_path / "PS.family.txt").write_text("박\n", encoding="utf-8")
    names = read_names(tmp_path, [sentence("<철수:PS>와 <철수:PS>, <밤:TI>"), sentence("<서울:LC>")])
    assert names.training_surfaces == {"LC": ["서울"], "PS": ["철수", "철수"], "TI": ["밤"]}
    assert names.lists == {"PS": ["톰 행크스", "아이유"]}
    assert (names.family_names, names.given_names) == ({"PS": ["박"]}, {})


@pytest.mark.parametrize("content", ["톰 행크스\n아이유", "톰 행크스\r\n아이유\r\n"])
def test_a_list_may_have_windows_line_ends(tmp_path, content):
    (tmp_path / "PS.txt").write_bytes(content.encode())
    assert read_names(tmp_path, []).lists["PS"] == ["톰 행크스", "아이유"]


@pytest.mark.parametrize("name", ["PS", "LC", "OG", "PS.family", "PS.given"])
def test_shipped_lists_are_clean(name):
    lines = (NAMES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    assert len(lines) == len(set(lines))
    assert [line for line in lines if line != line.strip() or not line or re.search("[<>]", line)] == []
    assert [line for line in lines if not unicodedata.is_normalized("NFC", line)] == []
