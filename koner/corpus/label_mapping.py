"""The label set of a corpus: found in its sentences or declared, after its labels have been renamed or dropped."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from koner.corpus.sentences import Sentence
from koner.errors import KonerError
from koner.labels.bio import Entity, entities_to_bio
from koner.labels.label_set import LabelSet


class LabelMapping:
    """The mapping of a source's labels to those of the corpus, with counts of the entities that it meets.

    Args:
        label_map: Patterns of `fnmatch` with the label that they give, or None for labels that are dropped; the first
            pattern that matches counts. None keeps all labels.
        declared: The labels that the corpus may have after that; None allows all.
    """

    def __init__(self, label_map: Mapping[str, str | None] | None, declared: Sequence[str] | None) -> None:
        self._label_map, self._declared = label_map, declared
        # By the label of the source, in the order in which they occur.
        self._counts: Counter[str] = Counter()
        self._targets: dict[str, str | None] = {}
        self._unmatched: set[str] = set()

    def apply(self, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
        """Yield sentences with the labels of the corpus, in NFC; neighbouring entities of one label stay separate."""
        for sentence in sentences:
            self._counts.update(entity.label for entity in sentence.entities)
            entities = tuple(
                Entity(entity.start, entity.end, target)
                for entity in sentence.entities
                if (target := self._target(entity.label)) is not None
            )
            if entities == sentence.entities:
                yield sentence
            else:
                tags = tuple(entities_to_bio(entities, len(sentence.text)))
                yield replace(sentence, tags=tags, entities=entities)

    def label_set(self) -> LabelSet:
        """Return the label set of the corpus, after all sentences have been applied.

        Raises:
            KonerError: If the label map has no pattern for a label, a label is not declared, or there is no label.
        """
        if self._unmatched:
            raise KonerError(f"label_map: no pattern matches {self._describe(self._unmatched)}")
        found = Counter[str]()
        for label, count in self._counts.items():
            if (target := self._targets[label]) is not None:
                found[target] += count
        if self._declared is not None and (undeclared := found.keys() - set(self._declared)):
            raise KonerError(f"labels: the corpus has labels that are not declared: {_list_counts(found, undeclared)}")
        if not (names := found if self._declared is None else self._declared):
            remedy = "; label_map drops all of its entities" if self._counts else ""
            raise KonerError(f"source: no sentence has an annotated entity{remedy}")
        return LabelSet.of(names)

    def metrics(self) -> dict[str, Any]:
        """Return what the label map did with each label of the source, for `metrics/prepare.json`; empty without it."""
        if self._label_map is None:
            return {}
        targets, counts = self._targets, self._counts
        rows = {label: {"to": targets[label], "entities": counts[label]} for label in sorted(counts)}
        dropped = sum(count for label, count in counts.items() if targets[label] is None)
        return {"label_map": {"dropped": dropped, "labels": rows}}

    def _target(self, label: str) -> str | None:
        if label not in self._targets:
            self._targets[label] = self._find_target(unicodedata.normalize("NFC", label))
        return self._targets[label]

    def _find_target(self, label: str) -> str | None:
        if self._label_map is None:
            return label
        for pattern, target in self._label_map.items():
            if fnmatchcase(label, unicodedata.normalize("NFC", pattern)):
                return target
        self._unmatched.add(label)
        return label

    def _describe(self, labels: Iterable[str]) -> str:
        return _list_counts(self._counts, labels)


def _list_counts(counts: Mapping[str, int], labels: Iterable[str]) -> str:
    """Return labels with the numbers of their entities, the most frequent first."""
    rows = sorted(labels, key=lambda label: (-counts[label], label))
    return ", ".join(f"{label} ({counts[label]:,})" for label in rows)
