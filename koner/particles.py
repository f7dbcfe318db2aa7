"""Korean particles that agree with the sound before them."""

from __future__ import annotations

# (after a consonant, after a vowel), longest first so that 이라는 is not taken for 이.
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
# Forms that are also how ordinary words begin: taken for a particle only where the word ends, or another follows.
_FOLLOWERS = ("는", "도", "만", "서", "부터", "의")
_RIEUL = 8
# How Korean reads digits and Latin letters out: index of the final consonant, 0 for none.
_READ_FINALS = {"0": 21, "1": 8, "3": 16, "6": 1, "7": 8, "8": 8, "L": 8, "R": 8, "M": 16, "N": 4}


def final_consonant(word: str) -> int | None:
    """The index of the final consonant of a word as read (0 none, 8 ㄹ); None where it can't be told."""
    last = word[-1:]
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28
    if last.isascii() and last.isalnum():
        return _READ_FINALS.get(last.upper(), 0)
    return None


def agree(word: str, following: str) -> str:
    """Gives the text that follows a name with the particle that begins it made to agree with `word`.

    What begins with no such particle, or follows a word whose reading can't be told, comes back as it was.
    """
    final = final_consonant(word)
    if final is None:
        return following
    for form, (after_consonant, after_vowel) in _FORMS:
        if not following.startswith(form):
            continue
        rest = following[len(form) :]
        if rest[:1].isalnum() and not rest.startswith(_FOLLOWERS):
            continue
        takes_vowel_form = final == 0 or (final == _RIEUL and after_vowel == "로")
        return (after_vowel if takes_vowel_form else after_consonant) + rest
    return following
