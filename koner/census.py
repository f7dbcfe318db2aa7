"""What a part of the corpus holds, counted while its sentences pass by."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koner.corpus import Sentence
from koner.labels import TYPES


@dataclass
class Census:
    """Counts of a part, added up sentence by sentence; of each text no more is kept than a hash of 8 bytes."""

    characters: int = 0
    types: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    texts: array[int] = field(default_factory=lambda: array("q"))

    def counting(self, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
        """Passes sentences on, and counts them."""
        for sentence in sentences:
            self.characters += len(sentence.text)
            self.types.update(entity.label for entity in sentence.entities)
            if sentence.source:
                self.sources[sentence.source] += 1
            self.texts.append(hash(sentence.text))
            yield sentence

    def metrics(self) -> dict[str, Any]:
        """The part's figures for `metrics/prepare.json`; `duplicates` are texts that stood before."""
        return {
            "sentences": len(self.texts),
            "characters": self.characters,
            "entities": {"all": self.types.total(), **{type_: self.types[type_] for type_ in TYPES}},
            "sources": dict(sorted(self.sources.items())),
            "duplicates": len(self.texts) - len(np.unique(self.texts)),
        }
