"""The files of a corpus, with the place of each sentence in them, so that a correction can be written back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from koner.corpus.checks import FaultReport, check_all
from koner.corpus.formats.base import Format, ReadOptions
from koner.corpus.formats.inline_lines import INLINE
from koner.corpus.formats.registry import AUTO, find_format, recognise
from koner.corpus.hub_dataset import is_hub_layout
from koner.corpus.inline import write_inline
from koner.corpus.part_files import find_part_files
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import Rules
from koner.corpus.text_files import read_lines
from koner.errors import KonerError
from koner.params import INCLUDED_CORPORA
from koner.storage.paths import local_path

_LINE = re.compile(r":(\d+)$")
# Formats in which a sentence has lines of its own, that depend on no others.
_PATCHABLE = ("klue", "inline", "doccano", "spans", "tokens")
_CONVERT = "; write the corpus with `koner convert` in the format klue, inline or doccano, and audit that"


@dataclass(frozen=True)
class CorpusFile:
    """A text file of a corpus.

    Attributes:
        path: The file.
        format: Its format.
        encoding: Its encoding.
        included: The name of the corpus, if it is one that ships with the package.
    """

    path: Path
    format: Format
    encoding: str
    included: str | None = None

    def read(self, rules: Rules, path: Path | None = None) -> list[tuple[str, Sentence]]:
        """Return the checked sentences of the file, each with its place, or those of another file in its stead.

        Raises:
            KonerError: If a sentence is not valid.
        """
        faults = FaultReport()
        places: dict[str, str] = {}

        def noted(raws: Iterator[RawSentence]) -> Iterator[RawSentence]:
            for raw in raws:
                places[raw.id] = raw.where
                yield raw

        sentences = list(check_all(noted(self._read_raw(path or self.path)), faults, rules))
        faults.raise_if_any()
        return [(places[sentence.id], sentence) for sentence in sentences]

    def _read_raw(self, path: Path) -> Iterator[RawSentence]:
        if self.included is None:
            yield from self.format.read(path, ReadOptions(self.encoding))
            return
        part, genre, _ = self.path.name.split(".")
        for number, line in enumerate(read_lines(path), start=1):
            id_ = f"{self.included}-{part}-{genre}-{number:04d}"
            yield RawSentence(f"{self.path.name}:{number}", id_, genre, annotated=line)

    def lines_of(self, sentence: Sentence) -> str:
        """Return a sentence as the file would hold it, without line ends at its end."""
        if self.included is not None:
            return write_inline(sentence.text, sentence.entities)
        if self.format.write is None or self.format.name not in _PATCHABLE:
            raise KonerError(f"{self.path} is in the format {self.format.name}, which a patch can't change" + _CONVERT)
        with TemporaryDirectory() as folder:
            path = Path(folder) / self.path.name
            self.format.write(path, [sentence])
            return path.read_text(encoding="utf-8").rstrip("\n")

    def replace(self, content: str, where: str, old: Sentence, new: Sentence) -> str:
        """Return the content of the file with another annotation of a sentence.

        Args:
            content: The content.
            where: The place of the sentence, as `read` returns it.
            old: The sentence as it is there.
            new: The sentence with the other annotation.

        Raises:
            KonerError: If the file does not hold the sentence in the very form in which koner writes it.
        """
        before, after = self.lines_of(old), self.lines_of(new)
        match = _LINE.search(where)
        if match is None:
            raise KonerError(f"{where}: {old.id} is not in a line of its own, and a patch can't change it" + _CONVERT)
        start = 0
        for _ in range(int(match[1]) - 1):
            start = content.index("\n", start) + 1
        end = start + len(before)
        if content[start:end] != before or content[end : end + 1] not in ("", "\n"):
            raise KonerError(f"{where}: {old.id} is not written as koner writes {self.format.name}" + _CONVERT)
        return content[:start] + after + content[end:]


def find_corpus_files(source: str, source_format: str, encoding: str) -> list[CorpusFile]:
    """Return the files of a source.

    Raises:
        KonerError: If the source is not a file or folder of text files in a known format.
    """
    if source in INCLUDED_CORPORA:
        paths = sorted(INCLUDED_CORPORA[source].glob("*.*.txt"))
        return [CorpusFile(path, INLINE, "utf-8", source) for path in paths]
    path = local_path(source)
    if not path.exists() or is_hub_layout(path):
        raise KonerError(f"source: {source} is no file or folder of text files, which a patch can change" + _CONVERT)
    files = []
    for file in (file for paths in find_part_files(path).values() for file in paths):
        format_ = recognise(file, encoding) if source_format == AUTO else find_format(source_format)
        if format_ is not None:
            files.append(CorpusFile(file, format_, encoding))
    return files
