"""Words of any length for WordPiece, whose search takes cubic time and is therefore limited to 100 characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tokenizers import NormalizedString, PreTokenizedString, Tokenizer, pre_tokenizers

# The longest word that is left to the tokenizers library, in characters. Its time for a word of n characters grows
# with n³: 7 µs a character for 100, more than 2 ms a character for 5,000.
LONGEST_WORD = 100
# No separator of words may be missing from this class: a text without a match has no word that is longer. It is the
# original text that is searched, and normalization makes one character at most a few.
_LONG_RUN = re.compile(rf"(?<![^ \t\n\r])[^ \t\n\r]{{{LONGEST_WORD + 1}}}")


def may_have_long_word(text: str) -> bool:
    """Return whether a text may have a word of more than `LONGEST_WORD` characters."""
    return _LONG_RUN.search(text) is not None


def cut_long_words(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of a WordPiece tokenizer without a limit that reads words of any length in linear time.

    Its tokens are those of the original, except that in a long word a character that no piece matches is an unknown
    token of its own: the original makes the whole word unknown. The copy can't be serialized, and it runs Python code
    for each word, so use it only for texts with long words.
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    cutter = pre_tokenizers.PreTokenizer.custom(_WordCutter(copy))
    copy.pre_tokenizer = pre_tokenizers.Sequence([*filter(None, [copy.pre_tokenizer]), cutter])
    return copy


class _WordCutter:
    """A pre-tokenizer that cuts words of more than `LONGEST_WORD` characters at the ends of their tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._prefix = tokenizer.model.continuing_subword_prefix
        self._pieces = set(tokenizer.get_vocab(with_added_tokens=False))
        # The length of the longest piece that begins with a character, without the prefix.
        self._longest: dict[str, int] = {}
        for piece in self._pieces:
            for characters in filter(None, (piece, piece.removeprefix(self._prefix))):
                self._longest[characters[0]] = max(len(characters), self._longest.get(characters[0], 0))

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Cut the words of a text; the tokenizers library calls this."""
        text.split(self._cut)

    def _cut(self, _: int, word: NormalizedString) -> list[NormalizedString]:
        characters = word.normalized
        if len(characters) <= LONGEST_WORD:
            return [word]
        first, *others = _cut_at(word, self._find_cuts(characters))
        for part in others:
            # A piece in the middle of a word has this prefix in the vocabulary.
            part.prepend(self._prefix)
        return [first, *others]

    def _find_cuts(self, word: str) -> list[int]:
        """Return where the parts of a word begin and end: only where WordPiece's search ends a token."""
        cuts, position = [0], 0
        while position < len(word):
            end = self._end_of_longest_piece(word, position)
            if end is None:
                # An unknown character would make its whole part unknown.
                cuts += [position, position + 1]
            elif end - cuts[-1] > LONGEST_WORD:
                cuts.append(position)
            position = end or position + 1
        return sorted({*cuts, len(word)})

    def _end_of_longest_piece(self, word: str, start: int) -> int | None:
        prefix = self._prefix if start else ""
        last = min(len(word), start + self._longest.get(word[start], 0))
        return next((end for end in range(last, start, -1) if prefix + word[start:end] in self._pieces), None)


def _cut_at(word: Any, bounds: Sequence[int]) -> list[NormalizedString]:
    """Cut a word at all bounds, the first and the last of which are its ends."""
    if len(bounds) == 2:
        return [word]
    # A slice takes time in proportion to the length of what it is taken from, so halve instead of cutting one by one.
    middle = len(bounds) // 2
    length = bounds[middle] - bounds[0]
    return _cut_at(word[:length], bounds[: middle + 1]) + _cut_at(word[length:], bounds[middle:])
