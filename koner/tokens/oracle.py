"""The oracle score: the best score that any model on these tokens can reach, and the entities it misses."""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from koner.corpus.sentences import Sentence
from koner.labels.bio import OUTSIDE, Entity, tag_type
from koner.labels.scores import precision_recall_f1
from koner.storage.outputs import atomic_file, write_text
from koner.storage.tables import escape_formula, escape_markdown
from koner.tokens.alignment import AlignedBatch, AlignedSentence, aligned_from_row, oracle_entities
from koner.tokens.spans import Span

TAIL = "other text in its last token"
TAIL_ENTITY = "another entity in its last token"
HEAD = "other text in its first token"
HEAD_ENTITY = "another entity in its first token"
UNKNOWN = "other text in an unknown token"
UNCOVERED = "characters that no token covers"

SpanT = TypeVar("SpanT", "_Token", Entity)


@dataclass(frozen=True)
class LostEntity:
    """A gold entity that perfect token predictions do not give; offsets are code points of the sentence."""

    part: str
    id: str
    label: str
    surface: str
    start: int
    end: int
    tokens: str
    read_as: str
    why: str


class _Token(NamedTuple):
    """A token of a sentence, and whether it is the unknown token; offsets are code points of the sentence."""

    start: int
    end: int
    is_unknown: bool


@dataclass
class OracleScore:
    """The counts of a part of the corpus from which its oracle score is computed, added up batch by batch."""

    part: str
    sentences: int = 0
    windows: int = 0
    tokens: int = 0
    unk_tokens: int = 0
    mixed_tokens: int = 0
    gold: int = 0
    predicted: int = 0
    exact: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, batch: AlignedBatch, unk_id: int | None) -> Iterator[LostEntity]:
        """Add a batch of sentences to the counts, and yield their lost entities.

        Most sentences are clean: their counts are sums of arrays. The others are counted one at a time.

        Args:
            batch: The aligned sentences.
            unk_id: The id of the tokenizer's unknown token; None if it has none.
        """
        self._add_clean(batch, unk_id)
        for row in batch.rows.filter(pa.array(~batch.is_clean)).to_pylist():
            yield from self._add_sentence(aligned_from_row(row), unk_id)

    def _add_clean(self, batch: AlignedBatch, unk_id: int | None) -> None:
        """Add the clean sentences of a batch: perfect predictions give exactly their entities."""
        is_clean = batch.is_clean
        token_ids = batch.token_ids[is_clean[batch.token_sentences]]
        entities = int(np.asarray(batch.rows.column("entities").value_lengths())[is_clean].sum())
        self.sentences += int(is_clean.sum())
        self.windows += int(batch.window_counts[is_clean].sum())
        self.tokens += len(token_ids)
        self.unk_tokens += 0 if unk_id is None else int((token_ids == unk_id).sum())
        self.gold += entities
        self.predicted += entities
        self.exact += entities

    def _add_sentence(self, aligned: AlignedSentence, unk_id: int | None) -> Iterator[LostEntity]:
        """Add any sentence, and yield its lost entities."""
        sentence, text = aligned.sentence, aligned.windowed_text
        self.sentences += 1
        self.windows += len(text.windows)
        self.tokens += len(text.token_positions)
        self.mixed_tokens += sum(len(entity_types(sentence.tags, span)) > 1 for span in text.offsets)
        predicted = oracle_entities(aligned)
        tokens = [_Token(*span, id_ == unk_id) for span, id_ in zip(text.offsets, text.token_ids, strict=True)]
        self.unk_tokens += sum(token.is_unknown for token in tokens)
        exact = set(predicted) & set(sentence.entities)
        self.gold += len(sentence.entities)
        self.predicted += len(predicted)
        self.exact += len(exact)
        for entity in sentence.entities:
            if entity not in exact:
                lost = _describe_lost_entity(self.part, sentence, entity, tokens, predicted)
                self.reasons[lost.why] += 1
                yield lost

    def metrics(self) -> dict[str, Any]:
        """Return the part's metrics, as `metrics/retag.json` holds them."""
        return {
            "sentences": self.sentences,
            "windows": self.windows,
            "tokens": self.tokens,
            "unk_tokens": self.unk_tokens,
            "tokens_of_several_types": self.mixed_tokens,
            "entities": self.gold,
            "read_back": self.predicted,
            "exact": self.exact,
            **precision_recall_f1(self.exact, self.predicted, self.gold),
            "lost": dict(self.reasons.most_common()),
        }


def entity_types(tags: Sequence[str], span: Span) -> set[str]:
    """Return the entity types of the characters in a span."""
    return {tag_type(tag) for tag in tags[span[0] : span[1]] if tag != OUTSIDE}


def write_lost_entities(lost: Iterable[LostEntity], table: Path, page: Path) -> None:
    """Write lost entities as a CSV table, and as a Markdown page grouped by reason, the commonest first.

    The texts are shown and not interpreted: as in `escape_formula` and `escape_markdown`.
    """
    lost = list(lost)
    with atomic_file(table) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        names = [f.name for f in fields(LostEntity)]
        # By default a text with a carriage return would not be quoted, and would be read as two rows.
        writer = csv.DictWriter(file, names, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows({key: escape_formula(value) for key, value in asdict(entity).items()} for entity in lost)
    lines = ["# Entities lost in alignment", ""]
    for reason, count in Counter(entity.why for entity in lost).most_common():
        lines += [f"## {reason}: {count}", "", "| part | sentence | type | entity | its tokens | read back as |"]
        lines += ["|---|---|---|---|---|---|"]
        for entity in lost:
            if entity.why == reason:
                cells = (entity.part, entity.id, entity.label, entity.surface, entity.tokens, entity.read_as)
                lines.append("| " + " | ".join(map(escape_markdown, cells)) + " |")
        lines.append("")
    if not lost:
        lines.append("None.")
    write_text(page, "\n".join(lines).rstrip() + "\n")


def _describe_lost_entity(
    part: str, sentence: Sentence, entity: Entity, tokens: Sequence[_Token], predicted: Sequence[Entity]
) -> LostEntity:
    text = sentence.text
    tokens = _overlapping(tokens, entity.start, entity.end)
    return LostEntity(
        part,
        sentence.id,
        entity.label,
        text[entity.start : entity.end],
        entity.start,
        entity.end,
        " ".join(text[token.start : token.end] for token in tokens),
        " ".join(f"{text[e.start : e.end]}:{e.label}" for e in _overlapping(predicted, entity.start, entity.end)),
        _find_reason(entity, tokens, sentence.entities),
    )


def _find_reason(entity: Entity, tokens: Sequence[_Token], entities: Sequence[Entity]) -> str:
    """Return why an entity is lost, from its tokens and all entities of the sentence, both in order."""
    if not tokens:
        return UNCOVERED
    first, last = tokens[0], tokens[-1]
    if (first.start < entity.start and first.is_unknown) or (last.end > entity.end and last.is_unknown):
        return UNKNOWN
    if first.start < entity.start:
        return HEAD_ENTITY if _overlapping(entities, first.start, entity.start) else HEAD
    if last.end > entity.end:
        return TAIL_ENTITY if _overlapping(entities, entity.end, last.end) else TAIL
    return UNCOVERED


def _overlapping(spans: Sequence[SpanT], start: int, end: int) -> Sequence[SpanT]:
    """Return those that overlap a range, from tokens or disjoint entities in order."""
    first = bisect_right(spans, start, key=lambda span: span.end)
    return spans[first : bisect_left(spans, end, key=lambda span: span.start)]
