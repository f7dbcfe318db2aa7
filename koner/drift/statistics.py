"""What is counted of texts, to compare them with others."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from koner.drift.unknown import unknown_id
from koner.inference.tagger import Tagger

DENSITY_CHARACTERS = 1_000


@dataclass(slots=True)
class TextStatistics:
    """Statistics of texts as a model reads them: 16 bytes a text.

    Attributes:
        scores: The score of each text: the geometric mean of the probabilities of its tags.
        densities: The entities of each text per 1,000 characters (code points).
        with_unknown: The number of texts with an unknown token.
        types: The number of entities of each type.
        characters: The number of characters.
        tokens: The number of tokens.
        unknown_tokens: The number of unknown tokens.
    """

    scores: array[float] = field(default_factory=lambda: array("d"))
    densities: array[float] = field(default_factory=lambda: array("d"))
    with_unknown: int = 0
    types: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    tokens: int = 0
    unknown_tokens: int = 0

    @property
    def texts(self) -> int:
        """The number of texts."""
        return len(self.scores)

    def density(self, label: str) -> float:
        """Return the number of entities of a type per 1,000 characters."""
        return DENSITY_CHARACTERS * self.types[label] / max(1, self.characters)

    def add(self, tagger: Tagger, texts: list[str]) -> None:
        """Tag texts and count them."""
        unknown = unknown_id(tagger.tokenizer.backend)
        logits = tagger.compute_logits(texts)
        for text, encoded, tagged in zip(texts, logits, tagger.decode_all(logits), strict=True):
            unknown_tokens = encoded.windowed_text.token_ids.count(unknown) if unknown is not None else 0
            self.scores.append(tagged.score)
            self.densities.append(DENSITY_CHARACTERS * len(tagged.entities) / max(1, len(text)))
            self.with_unknown += unknown_tokens > 0
            self.types.update(entity.label for entity in tagged.entities)
            self.characters += len(text)
            self.tokens += len(tagged.token_tags)
            self.unknown_tokens += unknown_tokens

    def merge(self, other: TextStatistics) -> None:
        """Add the statistics of other texts."""
        self.scores.extend(other.scores)
        self.densities.extend(other.densities)
        self.types.update(other.types)
        self.with_unknown += other.with_unknown
        self.characters += other.characters
        self.tokens += other.tokens
        self.unknown_tokens += other.unknown_tokens


def count_texts(tagger: Tagger, groups: Iterator[list[str]]) -> TextStatistics:
    """Return the statistics of groups of texts."""
    statistics = TextStatistics()
    for texts in groups:
        statistics.add(tagger, texts)
    return statistics
