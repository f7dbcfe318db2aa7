import pytest

from koner.training.particles import agree_particle, final_consonant

PAIRS = [
    ("은", "는"),
    ("이", "가"),
    ("을", "를"),
    ("과", "와"),
    ("으로", "로"),
    ("이라는", "라는"),
    ("이라고", "라고"),
    ("이나", "나"),
    ("이랑", "랑"),
    ("이며", "며"),
    ("이지만", "지만"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("rest", ["", " 갔다", ", 또", "."])
def test_a_particle_agrees_with_the_word(pair, form, rest):
    after_consonant, after_vowel = pair
    assert agree_particle("부산", pair[form] + rest) == after_consonant + rest
    assert agree_particle("대구", pair[form] + rest) == after_vowel + rest


@pytest.mark.parametrize(
    ("word", "following", "expected"),
    [
        ("서울", "으로", "로"),
        ("서울", "로", "로"),
        ("서울", "으로는", "로는"),
        ("서울", "가", "이"),
        ("서울", "는", "은"),
        ("서울", "라는", "이라는"),
        ("부산", "로부터", "으로부터"),
        ("부산", "로는", "으로는"),
        ("대구", "으로서", "로서"),
        ("대구", "과의", "와의"),
        ("부산", "와는", "과는"),
        ("부산", "와도", "과도"),
    ],
)
def test_the_liquid_takes_ro_and_a_second_particle_stays(word, following, expected):
    assert agree_particle(word, following) == expected


@pytest.mark.parametrize(
    ("word", "following", "expected"),
    [
        *[(digit, "는", "은") for digit in "013678"],
        *[(digit, "은", "는") for digit in "2459"],
        ("1", "으로", "로"),
        ("7", "으로", "로"),
        ("10", "로", "으로"),
        ("3", "로", "으로"),
        ("LG", "은", "는"),
        ("KBS", "을", "를"),
        ("SM", "가", "이"),
        ("Ben", "는", "은"),
        ("URL", "으로", "로"),
        ("FIFA", "과", "와"),
    ],
)
def test_digits_and_latin_letters_agree_as_they_are_read(word, following, expected):
    assert agree_particle(word, following) == expected


@pytest.mark.parametrize("word", ["부산", "대구", "서울"])
@pytest.mark.parametrize(
    "following",
    [
        "",
        " 은행",
        "에서",
        "의",
        "도",
        "이후",
        "가게",
        "은행",
        "을지로",
        "과장",
        "나라",
        "이었다",
        "씨는",
        ")이",
        "로봇",
    ],
)
def test_text_that_begins_with_no_particle_is_unchanged(word, following):
    assert agree_particle(word, following) == following


@pytest.mark.parametrize("word", ["", "美", "㎏", "%", "!", "ㅋ", "é"])
def test_text_after_a_word_of_unknown_reading_is_unchanged(word):
    assert agree_particle(word, "이 온다") == "이 온다"


@pytest.mark.parametrize(
    ("word", "final"),
    [
        ("대구", 0),
        ("부산", 4),
        ("서울", 8),
        ("힣", 27),
        ("가", 0),
        ("1", 8),
        ("2", 0),
        ("m", 16),
        ("", None),
        ("美", None),
    ],
)
def test_final_consonant(word, final):
    assert final_consonant(word) == final
