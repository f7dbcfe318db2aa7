"""Where sentences end."""

from __future__ import annotations

import re
from itertools import pairwise

# No control characters, though some count as whitespace: tokenizers drop them, and `가\x1f나` is one word. The letters
# of laughter and tears in both of Unicode's forms. A full stop after a digit is part of a date (2024. 3. 15.) or of a
# list's number far more often than an end. Looking back, and never back again (`++`), keeps it linear on any text.
_END = re.compile(
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
    """Cuts a text into sentences: half-open spans (code points) that cover it in order, whitespace with the former.

    A sentence ends at the end of a line, and at `.`, `!`, `?`, `…` or `。`, closing quotes and brackets with it, where
    whitespace follows; at laughter and tears (`ㅋㅋ`, `ㅠㅠ`, `^^`, `♥`) too, which stand in place of a full stop. No
    span is blank, unless the whole text is.
    """
    begin = len(text) - len(text.lstrip())
    cuts = {found.end() for found in _END.finditer(text, begin)}
    return list(pairwise(sorted({0, len(text), *cuts})))
