"""All formats of files, and the recognition of a file's format by its content."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from koner.corpus.formats.base import Format, Head
from koner.corpus.formats.brat import BRAT
from koner.corpus.formats.columns import COLUMNS
from koner.corpus.formats.docbin import DOCBIN
from koner.corpus.formats.inline_lines import INLINE
from koner.corpus.formats.klue_tsv import KLUE_TSV
from koner.corpus.formats.label_studio import LABEL_STUDIO, LABEL_STUDIO_MIN
from koner.corpus.formats.nikl import NIKL
from koner.corpus.formats.span_records import ANSWERS, DOCCANO, SPANS
from koner.corpus.formats.tagged_lines import TAGGED_LINES
from koner.corpus.formats.token_rows import TOKEN_LINES, TOKEN_PARQUET
from koner.corpus.text_files import read_chunks
from koner.errors import KonerError
from koner.text.signatures import SIGNATURE_BYTES, check_signature

AUTO = "auto"
# The layout of a folder, not of a file; `koner.corpus.hub_dataset` reads it.
HUB = "hub"
# In the order in which a file is compared with them.
FORMATS = (
    TOKEN_PARQUET,
    DOCBIN,
    TOKEN_LINES,
    ANSWERS,
    LABEL_STUDIO,
    DOCCANO,
    LABEL_STUDIO_MIN,
    SPANS,
    NIKL,
    BRAT,
    KLUE_TSV,
    TAGGED_LINES,
    COLUMNS,
    INLINE,
)
FORMAT_NAMES = (HUB, *sorted(format_.name for format_ in FORMATS))
_BY_NAME = {format_.name: format_ for format_ in FORMATS}


def find_format(name: str) -> Format:
    """Return the format of a name.

    Raises:
        KonerError: If there is none.
    """
    if name not in _BY_NAME:
        raise KonerError(f"there is no format '{name}'; there are {', '.join(FORMAT_NAMES)}")
    return _BY_NAME[name]


def recognise(path: Path, encoding: str) -> Format | None:
    """Return the format of a file, or None if the file is empty.

    Raises:
        KonerError: If it is in no known format.
    """
    head = Head.of(path, encoding)
    if not head.content.strip():
        return None
    for format_ in FORMATS:
        if format_ is TOKEN_LINES and encoding == "utf-8":
            # All formats from here on are text.
            check_signature(head.content[:SIGNATURE_BYTES], str(path))
        if format_.matches(head):
            return format_
    # Another encoding may be the reason.
    deque(read_chunks(path, encoding), maxlen=0)
    raise KonerError(
        f"source: the format of {path} is not recognised; set `source_format` to one of {', '.join(FORMAT_NAMES)}"
    )
