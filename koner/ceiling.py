"""What alignment to tokens costs: the best figure that any model on these tokens can reach, and what is lost."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from koner.alignment import Retagged, read_back, retagged_from_row, types_in
from koner.labels import Entity
from koner.retagging import RetaggedBatch
from koner.scoring import ratios

TAIL = "other text in its last token"
TAIL_ENTITY = "another entity in its last token"
HEAD = "other text in its first token"
HEAD_ENTITY = "another entity in its first token"
UNCOVERED = "characters that no token covers"


@dataclass(frozen=True)
class Loss:
    """An entity that does not survive the trip to tokens and back; offsets are code points of the sentence."""

    part: str
    id: str
    label: str
    surface: str
    start: int
    end: int
    tokens: str
    read_as: str
    why: str


@dataclass
class Ceiling:
    """Counts of a part, added up sentence by sentence."""

    part: str
    sentences: int = 0
    windows: int = 0
    tokens: int = 0
    unk_tokens: int = 0
    mixed_tokens: int = 0
    gold: int = 0
    found: int = 0
    exact: int = 0
    whys: Counter[str] = field(default_factory=Counter)

    def add(self, retagged: Retagged, unk_id: int | None) -> Iterator[Loss]:
        """Counts a sentence in; yields its losses."""
        sentence, encoded = retagged.sentence, retagged.encoded
        self.sentences += 1
        self.windows += len(encoded.windows)
        self.tokens += len(encoded.tokens)
        self.unk_tokens += sum(encoded.windows[w].input_ids[p] == unk_id for w, p in encoded.tokens)
        self.mixed_tokens += sum(len(types_in(sentence.tags, span)) > 1 for span in encoded.offsets)
        found = read_back(retagged)
        kept = set(found) & set(sentence.entities)
        self.gold += len(sentence.entities)
        self.found += len(found)
        self.exact += len(kept)
        for entity in sentence.entities:
            if entity not in kept:
                loss = self._loss(retagged, entity, found)
                self.whys[loss.why] += 1
                yield loss

    def add_batch(self, batch: RetaggedBatch, unk_id: int | None) -> Iterator[Loss]:
        """Counts a batch of sentences in; yields their losses, as `add` does sentence by sentence."""
        clean = batch.clean
        ids = batch.token_ids[clean[batch.sentences]]
        entities = int(np.asarray(batch.rows.column("entities").value_lengths())[clean].sum())
        self.sentences += int(clean.sum())
        self.windows += int(batch.windows[clean].sum())
        self.tokens += len(ids)
        self.unk_tokens += 0 if unk_id is None else int((ids == unk_id).sum())
        self.gold += entities
        self.found += entities
        self.exact += entities
        for row in batch.rows.filter(pa.array(~clean)).to_pylist():
            yield from self.add(retagged_from_row(row), unk_id)

    def _loss(self, retagged: Retagged, entity: Entity, found: Iterable[Entity]) -> Loss:
        text = retagged.sentence.text
        tokens = [(a, b) for a, b in retagged.encoded.offsets if a < entity.end and b > entity.start]
        others = [e for e in retagged.sentence.entities if e != entity]

        def shared(start: int, end: int) -> bool:
            return any(e.start < end and e.end > start for e in others)

        if not tokens:
            why = UNCOVERED
        elif tokens[0][0] < entity.start:
            why = HEAD_ENTITY if shared(tokens[0][0], entity.start) else HEAD
        elif tokens[-1][1] > entity.end:
            why = TAIL_ENTITY if shared(entity.end, tokens[-1][1]) else TAIL
        else:
            why = UNCOVERED
        read_as = [e for e in found if e.start < entity.end and e.end > entity.start]
        return Loss(
            self.part,
            retagged.sentence.id,
            entity.label,
            text[entity.start : entity.end],
            entity.start,
            entity.end,
            " ".join(text[a:b] for a, b in tokens),
            " ".join(f"{text[e.start : e.end]}:{e.label}" for e in read_as),
            why,
        )

    def metrics(self) -> dict[str, Any]:
        """The part's figures for `metrics/retag.json`."""
        return {
            "sentences": self.sentences,
            "windows": self.windows,
            "tokens": self.tokens,
            "unk_tokens": self.unk_tokens,
            "tokens_of_several_types": self.mixed_tokens,
            "entities": self.gold,
            "read_back": self.found,
            "exact": self.exact,
            **ratios(self.exact, self.found, self.gold),
            "lost": dict(self.whys.most_common()),
        }


def write_losses(losses: Iterable[Loss], table: Path, readable: Path) -> None:
    """Writes the losses as CSV, and as a Markdown page that groups them by reason, the commonest first."""
    losses = list(losses)
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Loss)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(loss) for loss in losses)
    lines = ["# Entities lost in alignment", ""]
    for why, count in Counter(loss.why for loss in losses).most_common():
        lines += [f"## {why}: {count}", "", "| part | sentence | type | entity | its tokens | read back as |"]
        lines += ["|---|---|---|---|---|---|"]
        for loss in losses:
            if loss.why == why:
                cells = (loss.part, loss.id, loss.label, loss.surface, loss.tokens, loss.read_as)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    if not losses:
        lines.append("None.")
    readable.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
