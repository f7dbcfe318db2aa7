"""The candidates as one HTML page: the annotation of each sentence above the suggestion, with filters.

The page has the style and the script of the evaluation's report. It loads nothing, and the same input gives the same
file.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

import koner.report
from koner.annotation.pairs import pair_annotations
from koner.audit.candidates import CHECKS, KINDS, Candidate, apply_candidates, by_sentence
from koner.inference.decoding import ScoredEntity
from koner.labels.bio import Entity
from koner.labels.styles import LabelStyle, stylesheet
from koner.report.error_cards import Piece, error_cards
from koner.storage.outputs import write_text

_TEMPLATES = (Path(__file__).parent / "templates", Path(koner.report.__file__).parent / "templates")
# What a candidate is filtered by: its kind if the model found it, else the check.
_FILTERS = (*KINDS, *(check for check in CHECKS if check != "model"))


@dataclass(frozen=True)
class AuditCard:
    """A doubtful sentence: the pieces of both lines, and the candidates."""

    id: str
    text: str
    annotated: list[Piece]
    suggested: list[Piece]
    candidates: list[Candidate]


def write_page(
    path: Path,
    candidates: Sequence[Candidate],
    annotation: Mapping[str, Sequence[Entity]],
    styles: Sequence[LabelStyle],
    shown: int,
) -> None:
    """Write the page.

    Args:
        path: The file to write.
        candidates: All candidates, in the order to show their sentences.
        annotation: The annotated entities of each sentence with a candidate, by its id.
        styles: The types, in the order to show them.
        shown: The number of sentences to show.
    """
    sentences = by_sentence(candidates)
    cards = [_card(found, annotation[id_]) for id_, found in list(sentences.items())[:shown]]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    script = environment.get_template("report.js").render()
    in_cards = [candidate for card in cards for candidate in card.candidates]
    page = environment.get_template("audit.html.j2").render(
        title="koner: audit of the annotation",
        cards=cards,
        all_candidates=len(candidates),
        all_sentences=len(sentences),
        counts=Counter(candidate.check for candidate in candidates),
        filters=_FILTERS,
        filter_of=filter_of,
        in_shown=Counter(
            key for c in in_cards for key in (("kind", filter_of(c)), *(("type", type_) for type_ in c.types))
        ),
        types={style.label: "" if style.en == style.label else style.en for style in styles},
        classes={style.label: f"t{i}" for i, style in enumerate(styles)},
        stylesheet=stylesheet(styles),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_text(path, page + "\n")


def filter_of(candidate: Candidate) -> str:
    """Return the name by which the page filters a candidate."""
    return candidate.kind if candidate.check == "model" else candidate.check


def _card(candidates: list[Candidate], annotated: Sequence[Entity]) -> AuditCard:
    id_, text = candidates[0].id, candidates[0].text
    scores = {c.suggested: c.score for c in candidates}
    suggested = (
        ScoredEntity(e.start, e.end, e.label, scores.get(e, 1.0)) for e in apply_candidates(annotated, candidates)
    )
    cards = error_cards([pair_annotations(id_, text, annotated, suggested)])
    # A candidate without a suggestion changes nothing.
    plain = [Piece(text)]
    sides = (cards[0].gold, cards[0].predicted) if cards else (plain, plain)
    # What is not in doubt has no score.
    annotated_pieces, suggested_pieces = (
        [replace(piece, score=None) if piece.kind == "correct" else piece for piece in side] for side in sides
    )
    return AuditCard(id_, text, annotated_pieces, suggested_pieces, candidates)
