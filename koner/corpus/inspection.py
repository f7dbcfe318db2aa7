"""A summary of a source: its parts, sentences, types with examples, changes and faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from koner.corpus.checks import FaultReport, check_all
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import Rules, SourceReport

_EXAMPLES = 3


@dataclass
class Summary:
    """What a source holds.

    Attributes:
        report: The format, the tag schemes and the changes.
        sentences: The number of valid sentences of each part.
        types: The number of entities of each type and part.
        examples: The first different entities of each type.
        faults: The faults of the other sentences.
    """

    report: SourceReport
    sentences: Counter[str] = field(default_factory=Counter)
    types: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    faults: FaultReport = field(default_factory=FaultReport)

    def add(self, part: str, sentence: Sentence) -> None:
        """Count a sentence and its entities."""
        self.sentences[part] += 1
        for entity in sentence.entities:
            self.types.setdefault(entity.label, Counter())[part] += 1
            examples = self.examples.setdefault(entity.label, [])
            if len(examples) < _EXAMPLES and (form := sentence.text[entity.start : entity.end]) not in examples:
                examples.append(form)


def summarize_source(parts: dict[str, Iterator[RawSentence]], rules: Rules, report: SourceReport) -> Summary:
    """Read all sentences of a source and return their summary; a fault does not end the reading."""
    summary = Summary(report)
    for part, raw_sentences in parts.items():
        summary.sentences[part] = 0
        for sentence in check_all(raw_sentences, summary.faults, rules, report):
            summary.add(part, sentence)
    return summary
