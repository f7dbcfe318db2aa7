"""Splitting a text into sentences."""

from __future__ import annotations

import re
from itertools import pairwise

# Control characters do not end a sentence, although some are whitespace: tokenizers drop them, so `가\x1f나` is one
# word. Laughter and tears (ㅋ, ㅎ, ㅠ, ㅜ) are listed in both of their Unicode forms. A full stop after a digit is far
# more often part of a date (2024. 3. 15.) or of a list number than the end of a sentence. The lookbehinds and the
# possessive quantifiers (`++`) keep the search linear on any text.
_SENTENCE_END = re.compile(
    r"""
    (?:
      (?: (?<=[!?…。！？｡ㅋㅎㅠㅜ\u110f\u1112\u1172\u116e♡♥]) | (?<=\^\^) | (?<=\.)(?<!\d\.) )
      ["'”’»」』》〉)\]）］]*+ [^\S\v\f\x1c-\x1f\x85]
      | [\n\r\u2028\u2029]
    )
    \s*+
    """,
    re.VERBOSE,
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of the sentences of a text, half-open, in code points.

    The spans cover the text in order; whitespace belongs to the sentence before it. A sentence ends at a line end, and
    at `.`, `!`, `?`, `…` or `。` with closing quotes and brackets if whitespace follows. Laughter and tears (`ㅋㅋ`,
    `ㅠㅠ`, `^^`, `♥`) end a sentence as a full stop does. No span is blank, unless the whole text is.
    """
    begin = len(text) - len(text.lstrip())
    ends = {match.end() for match in _SENTENCE_END.finditer(text, begin)}
    return list(pairwise(sorted({0, len(text), *ends})))
