"""Korean particles whose form depends on the final sound of the word before them."""

from __future__ import annotations

# (after a consonant, after a vowel). Longer forms come first, or 이라는 would be read as the particle 이.
_PAIRS = (
    ("이라는", "라는"),
    ("이라고", "라고"),
    ("이라면", "라면"),
    ("이라도", "라도"),
    ("이라서", "라서"),
    ("이지만", "지만"),
    ("으로", "로"),
    ("이나", "나"),
    ("이랑", "랑"),
    ("이란", "란"),
    ("이며", "며"),
    ("은", "는"),
    ("이", "가"),
    ("을", "를"),
    ("과", "와"),
)
_FORMS = sorted(((form, pair) for pair in _PAIRS for form in pair), key=lambda item: len(item[0]), reverse=True)
# Ordinary words begin like particles, so a form counts as a particle only at the end of a word or before one of these.
_FOLLOWING_PARTICLES = ("는", "도", "만", "서", "부터", "의")
_RIEUL = 8
# The indices of the final consonants of digits and Latin letters as Koreans read them; others end in a vowel.
_READ_FINALS = {"0": 21, "1": 8, "3": 16, "6": 1, "7": 8, "8": 8, "L": 8, "R": 8, "M": 16, "N": 4}


def final_consonant(word: str) -> int | None:
    """Return the index of the final consonant of a word as it is read.

    Returns:
        The index in Unicode's order of final consonants (0 for none, 8 for ㄹ), or None if the word ends in a character
        whose reading is unknown.
    """
    last = word[-1:]
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28
    if last.isascii() and last.isalnum():
        return _READ_FINALS.get(last.upper(), 0)
    return None


def agree_particle(word: str, following: str) -> str:
    """Return the text after a word with its first particle in the form that the word takes.

    Args:
        word: The word, or its last character.
        following: The text after it.

    Returns:
        `following`, unchanged if it does not begin with such a particle or if the reading of `word` is unknown.
    """
    final = final_consonant(word)
    if final is None:
        return following
    for form, (after_consonant, after_vowel) in _FORMS:
        if not following.startswith(form):
            continue
        rest = following[len(form) :]
        if rest[:1].isalnum() and not rest.startswith(_FOLLOWING_PARTICLES):
            continue
        takes_vowel_form = final == 0 or (final == _RIEUL and after_vowel == "로")
        return (after_vowel if takes_vowel_form else after_consonant) + rest
    return following
