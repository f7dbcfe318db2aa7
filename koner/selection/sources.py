"""The texts of corpora that are annotated already."""

from __future__ import annotations

from koner.corpus.sources import read_checked, read_source
from koner.selection.candidates import fingerprint


def fingerprints_of(source: str) -> set[bytes]:
    """Return the fingerprints of the texts of an annotated corpus, in any format that `koner inspect` reads.

    Raises:
        KonerError: If the corpus can't be read, or has a fault.
    """
    parts = read_checked(read_source(source, "ner", None))
    return {fingerprint(sentence.text) for sentences in parts.values() for sentence in sentences}
