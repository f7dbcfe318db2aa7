import random
import re
import unicodedata

import pytest

from koner.augmentation import NAMES, Names, augmented, read_names, substitute
from koner.corpus import RawSentence, check
from koner.labels import entities_of

SEEN = {
    "PS": ["영숙", "철수", "김"],
    "LC": ["서울", "제주"],
    "OG": ["검찰"],
    "DT": ["지난해", "3일"],
    "QT": ["10명", "하나"],
    "TI": ["밤"],
}
LISTED = {"PS": ["톰 행크스"], "LC": ["부산", "광주"], "OG": ["정부", "국회"]}
LEGAL = {
    **{label: {*SEEN[label], *LISTED.get(label, ())} for label in SEEN},
    "PS": {*SEEN["PS"], *LISTED["PS"], "박민서", "박지호"},
}
NAMED = Names(SEEN, LISTED, ["박"], ["민서", "지호"])
LINES = [
    "<철수:PS>는 <서울:LC>과 <제주:LC>를 <지난해:DT> 지나 <검찰:OG>로 갔다.",
    "<10명:QT>이 <3일:DT> <밤:TI>에 <김:PS>모 씨를 봤다",
    "<서울:LC><제주:LC>",
    "비가 온다",
]


def sentence(annotated, id_="a"):
    return check(RawSentence("file:1", id_, "news", annotated=annotated))


TRAINING = [sentence(line, str(i)) for i, line in enumerate(LINES)]


def drawn(original, seed, names=NAMED, copy=1):
    return substitute(original, names, random.Random(seed), copy)  # noqa: S311


def surfaces(made):
    return [(made.text[e.start : e.end], e.label) for e in made.entities]


def is_legal(surface, label):
    return surface in LEGAL[label] or re.fullmatch({"DT": r"[1-9]일", "QT": r"[1-9]\d명"}.get(label, "$"), surface)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("seed", range(25))
def test_entities_keep_number_and_type_and_stand_where_the_offsets_say(line, seed):
    original = sentence(line)
    made = drawn(original, seed)
    assert [e.label for e in made.entities] == [e.label for e in original.entities]
    assert all(is_legal(*found) for found in surfaces(made))
    assert len(made.tags) == len(made.text)
    assert tuple(entities_of(made.tags)) == made.entities


@pytest.mark.parametrize("seed", range(25))
def test_the_text_between_stays_but_for_the_particles(seed):
    made = drawn(TRAINING[0], seed)
    names = [re.escape(surface) for surface, _ in surfaces(made)]
    pattern = "{}(은|는) {}(과|와) {}(을|를) {} 지나 {}(으로|로) 갔다\\."
    found = re.fullmatch(pattern.format(*names), made.text)
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
    person, place, other, _, body = (surface for surface, _ in surfaces(made))
    assert found[1] == expected[person]
    assert found[2] == expected[place][0]
    assert found[3] == expected[other][1]
    assert found[4] == expected[body]


def test_other_names_do_come_in():
    found = {pair for seed in range(200) for pair in surfaces(drawn(TRAINING[0], seed))}
    people = {surface for surface, label in found if label == "PS"}
    assert people == LEGAL["PS"]
    assert {surface for surface, label in found if label == "LC"} == {"서울", "제주", "부산", "광주"}
    assert {surface for surface, label in found if label == "OG"} == {"검찰", "정부", "국회"}


@pytest.mark.parametrize("seed", range(25))
def test_a_name_of_one_character_gives_way_only_to_its_like(seed):
    made = drawn(sentence("<김:PS>모 씨"), seed)
    assert made.text == "김모 씨"


@pytest.mark.parametrize("seed", range(25))
def test_digits_give_way_to_as_many_digits(seed):
    made = drawn(sentence("<0.75%:QT>의"), seed, Names({"QT": ["0.75%"]}, {}))
    assert re.fullmatch(r"0\.[1-9]\d%의", made.text)


def test_a_substituted_sentence_tells_where_it_comes_from():
    made = drawn(sentence("<철수:PS>는", "train-3"), 1, copy=2)
    assert (made.id, made.source) == ("train-3+2", "news")


def test_copies_are_made_of_each_sentence_with_entities():
    made = list(augmented(TRAINING, NAMED, 3, 1))
    assert [s.id for s in made] == [f"{i}+{copy}" for copy in (1, 2, 3) for i in (0, 1, 2)]


def test_no_copies_make_no_sentences():
    assert list(augmented(TRAINING, NAMED, 0, 1)) == []


def test_a_seed_reproduces_its_sentences_and_another_gives_others():
    first, again, other = (list(augmented(TRAINING, NAMED, 3, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_names_are_read_from_the_training_part_and_the_lists(tmp_path):
    (tmp_path / "PS.txt").write_text("톰 행크스\n아이유\n", encoding="utf-8")
    (tmp_path / "family.txt").write_text("박\n", encoding="utf-8")
    names = read_names(tmp_path, [sentence("<철수:PS>와 <철수:PS>, <밤:TI>"), sentence("<서울:LC>")])
    assert names.seen == {"DT": [], "LC": ["서울"], "OG": [], "PS": ["철수", "철수"], "QT": [], "TI": ["밤"]}
    assert names.listed == {"LC": [], "OG": [], "PS": ["톰 행크스", "아이유"]}
    assert (names.family, names.given) == (["박"], [])


@pytest.mark.parametrize("content", ["톰 행크스\n아이유", "톰 행크스\r\n아이유\r\n"])
def test_a_list_may_end_its_lines_otherwise(tmp_path, content):
    (tmp_path / "PS.txt").write_bytes(content.encode())
    assert read_names(tmp_path, []).listed["PS"] == ["톰 행크스", "아이유"]


@pytest.mark.parametrize("name", ["PS", "LC", "OG", "family", "given"])
def test_shipped_lists_are_clean(name):
    lines = (NAMES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    assert len(lines) == len(set(lines))
    assert [line for line in lines if line != line.strip() or not line or re.search("[<>]", line)] == []
    assert [line for line in lines if not unicodedata.is_normalized("NFC", line)] == []
