"""The audit of a source in any format, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from koner.audit.candidates import Candidate, join_candidates
from koner.audit.checks import run_checks, trimmed_candidates
from koner.audit.outputs import read_changes
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import Rules, SourceReport
from koner.corpus.sources import read_checked
from koner.errors import KonerError
from koner.labels.label_set import LabelSet
from koner.labels.styles import LabelStyle, read_styles


@dataclass(frozen=True)
class CheckedSource:
    """A source after the checks that need no model."""

    candidates: list[Candidate]
    sentences: dict[str, Sentence]
    styles: Sequence[LabelStyle]


def check_source(
    source: str, read: Callable[[str, SourceReport], Mapping[str, Iterator[RawSentence]]], rules: Rules
) -> CheckedSource:
    """Read a source and run the checks over the sentences of all its parts.

    Args:
        source: The source.
        read: Returns the raw sentences of each part of a source.
        rules: What to do with overlapping entities and illegal tags.

    Raises:
        KonerError: If the source has a fault.
    """
    report = SourceReport()
    with TemporaryDirectory() as folder:
        changes_path = Path(folder) / "changes.csv"
        with report.list_in(changes_path):
            parts = read_checked(dict(read(source, report)), rules, report)
        changes = read_changes(changes_path)
    sentences: dict[str, Sentence] = {}
    for sentence in (sentence for part in parts.values() for sentence in part):
        if sentences.setdefault(sentence.id, sentence) is not sentence:
            raise KonerError(f"source: the id {sentence.id} is in two parts of {source}")
    texts = {id_: sentence.text for id_, sentence in sentences.items()}
    of_checks = [*trimmed_candidates(changes, texts), *run_checks(list(sentences.values()))]
    types = sorted({entity.label for sentence in sentences.values() for entity in sentence.entities})
    styles = read_styles(None, LabelSet.of(types)) if types else ()
    return CheckedSource(join_candidates([], of_checks), sentences, styles)
