"""Candidates for annotation errors, and the table that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from koner.labels.bio import Entity
from koner.storage.tables import escape_formula, write_table

# How a candidate was found: by the model, or by a check that needs no model.
Check = Literal["model", "surface", "unmarked", "twice", "particle", "bracket", "white space"]
CHECKS: tuple[Check, ...] = get_args(Check)
_CERTAIN: tuple[Check, ...] = ("white space", "bracket", "twice")
Kind = Literal["missed", "spurious", "boundary", "type", "both"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COLUMNS = (
    "rank",
    "id",
    "check",
    "kind",
    "score",
    "annotated",
    "annotated_type",
    "annotated_start",
    "annotated_end",
    "suggested",
    "suggested_type",
    "suggested_start",
    "suggested_end",
    "note",
    "text",
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible annotation error, with the suggested correction.

    Attributes:
        id: The id of the sentence.
        text: The sentence.
        check: How it was found.
        annotated: The annotated entity, in code points; None if an entity is missed.
        suggested: The entity that should be there instead; None if there should be none.
        score: How certain it is, from 0 to 1; comparable within a check only.
        note: What the check saw, in words.
    """

    id: str
    text: str
    check: Check
    annotated: Entity | None
    suggested: Entity | None
    score: float
    note: str = ""

    @property
    def kind(self) -> Kind:
        """What is wrong.

        `missed`: an entity is not annotated. `spurious`: what is annotated is none. `boundary`, `type`, `both`: its
        span, its type, or both are wrong.
        """
        if self.annotated is None:
            return "boundary" if self.suggested is None else "missed"
        if self.suggested is None:
            return "spurious"
        if self.annotated.label == self.suggested.label:
            return "boundary"
        is_same_span = (self.annotated.start, self.annotated.end) == (self.suggested.start, self.suggested.end)
        return "type" if is_same_span else "both"

    @property
    def types(self) -> list[str]:
        """The types of both entities, without repetition."""
        return list(dict.fromkeys(e.label for e in (self.annotated, self.suggested) if e))


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Write candidates as CSV, in order; texts that a spreadsheet would read as formulas get an apostrophe."""
    rows = [
        {
            "rank": rank,
            "id": escape_formula(c.id),
            "check": c.check,
            "kind": c.kind,
            "score": f"{c.score:.6f}",
            **_entity_cells("annotated", c.annotated, c.text),
            **_entity_cells("suggested", c.suggested, c.text),
            "note": escape_formula(c.note),
            "text": escape_formula(c.text),
        }
        for rank, c in enumerate(candidates, start=1)
    ]
    write_table(path, rows, COLUMNS)


def _entity_cells(side: str, entity: Entity | None, text: str) -> dict[str, Any]:
    if entity is None:
        return {}
    return {
        side: escape_formula(text[entity.start : entity.end]),
        f"{side}_type": escape_formula(entity.label),
        f"{side}_start": entity.start,
        f"{side}_end": entity.end,
    }


def join_candidates(of_model: Sequence[Candidate], of_checks: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates of the model and of the checks in one order, each change of an entity once.

    First come the checks that are hardly ever wrong, then the model's candidates, then the other checks. What a check
    notes about a candidate of the model is added to it.
    """
    notes = {_change(c): c.note for c in of_checks}
    known = {_change(c) for c in of_model}
    of_model = [replace(c, note=notes.get(_change(c), "")) for c in of_model]
    others = [c for c in of_checks if c.check in _CERTAIN or _change(c) not in known]
    certain = [c for c in others if c.check in _CERTAIN]
    certain_changes = {_change(c) for c in certain}
    return [
        *certain,
        *(c for c in of_model if _change(c) not in certain_changes),
        *(c for c in others if c.check not in _CERTAIN),
    ]


def _change(candidate: Candidate) -> tuple[str, Entity | None, Entity | None]:
    return candidate.id, candidate.annotated, candidate.suggested


def by_sentence(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Return the candidates of each sentence by its id, sentences and candidates in the order of the candidates."""
    sentences: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        sentences.setdefault(candidate.id, []).append(candidate)
    return sentences


def apply_candidates(annotated: Sequence[Entity], candidates: Iterable[Candidate]) -> tuple[Entity, ...]:
    """Return the entities of a sentence with the suggestions of its candidates, in order.

    The candidates are applied in their order; one that contradicts an earlier one is left out.
    """
    entities = set(annotated)
    changed: set[Entity] = set()
    for candidate in candidates:
        old, new = candidate.annotated, candidate.suggested
        if old is None and new is None:
            continue
        kept = entities - {old}
        overlaps = new is not None and any(e.start < new.end and new.start < e.end for e in kept)
        if (old is not None and old not in entities) or old in changed or overlaps:
            continue
        entities = kept | ({new} if new else set())
        changed |= {new} if new else set()
    return tuple(sorted(entities))
