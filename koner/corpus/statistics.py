"""Statistics of a part of the corpus, collected while its sentences are streamed."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koner.corpus.sentences import Sentence
from koner.labels.label_set import LabelSet


@dataclass
class CorpusStatistics:
    """Counts of a part; of each text only a hash of 8 bytes is kept, to count duplicates."""

    characters: int = 0
    types: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    text_hashes: array[int] = field(default_factory=lambda: array("q"))

    def count(self, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
        """Count sentences and yield them unchanged."""
        for sentence in sentences:
            self.characters += len(sentence.text)
            self.types.update(entity.label for entity in sentence.entities)
            if sentence.source:
                self.sources[sentence.source] += 1
            self.text_hashes.append(hash(sentence.text))
            yield sentence

    def metrics(self, labels: LabelSet) -> dict[str, Any]:
        """Return the figures of the part for `metrics/prepare.json`; `duplicates` are repeated texts."""
        return {
            "sentences": len(self.text_hashes),
            "characters": self.characters,
            "entities": {"all": self.types.total(), **{type_: self.types[type_] for type_ in labels.types}},
            "sources": dict(sorted(self.sources.items())),
            "duplicates": len(self.text_hashes) - len(np.unique(self.text_hashes)),
        }
