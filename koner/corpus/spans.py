"""Entities that a source gives by offsets: checks, offsets in other units, white space at the edges, overlaps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from koner.corpus.characters import quote
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.source_report import Rules, SourceReport
from koner.labels.bio import Entity
from koner.labels.label_set import why_not_a_label
from koner.params import Overlaps

# The last code point of one UTF-16 code unit.
_LAST_OF_ONE_UNIT = "\uffff"
# By unit of offsets: how many a code point takes.
_UNITS = {
    "UTF-16 code units": lambda character: 2 if character > _LAST_OF_ONE_UNIT else 1,
    "bytes": lambda character: len(character.encode("utf-8", "surrogatepass")),
}


def resolve_spans(raw: RawSentence, rules: Rules, report: SourceReport) -> tuple[str, list[Entity]]:
    """Return the text of a raw sentence and its entities: disjoint, in order, in code points.

    Raises:
        ValueError: If an entity is not valid, or if two overlap and `rules` does not say which one to keep.
    """
    text = raw.text
    if not isinstance(text, str):
        raise ValueError(f"the text is {type(text).__name__}, not text")
    entities = [_check(entity) for entity in raw.entities or ()]
    wrong = next((entity for entity in entities if not _agrees(text, entity)), None)
    if wrong:
        entities = _convert_units(raw, text, entities, wrong, report)
    elif raw.may_be_utf16 and _has_two_units(text[: max((e.end for e in entities if e.form is None), default=0)]):
        detail = "a character of two UTF-16 code units is before an entity, whose text is not given"
        report.add("unproven_offsets", raw.where, raw.id, detail)
    spans = [Entity(entity.start, entity.end, entity.label) for entity in entities]
    spans = trim(text, spans, raw, report)
    unique = list(dict.fromkeys(spans))
    if len(unique) < len(spans):
        report.add("merged_duplicates", raw.where, raw.id, f"{len(spans) - len(unique)} entities are there twice")
    return text, _resolve_overlaps(text, unique, raw, rules.overlaps, report)


def trim(text: str, entities: list[Entity], raw: RawSentence, report: SourceReport) -> list[Entity]:
    """Return entities without the white space at their edges; each that changes is reported.

    Raises:
        ValueError: If an entity is nothing but white space.
    """
    if not any(text[e.start].isspace() or text[e.end - 1].isspace() for e in entities):
        return entities
    trimmed = []
    for entity in entities:
        form = text[entity.start : entity.end]
        if not form.strip():
            raise ValueError(f"the entity at {entity.start}:{entity.end} ({entity.label}) is nothing but white space")
        start = entity.start + len(form) - len(form.lstrip())
        kept = Entity(start, start + len(form.strip()), entity.label)
        if kept != entity:
            report.add("trimmed", raw.where, raw.id, f"{entity.label} {quote(form)} begins or ends with white space")
        trimmed.append(kept)
    return trimmed


def _check(entity: RawEntity) -> RawEntity:
    for name in ("start", "end"):
        offset = getattr(entity, name)
        if not isinstance(offset, int) or isinstance(offset, bool):
            raise ValueError(f"the {name} of an entity is {offset!r:.60}, not a whole number")
    place = f"of the entity at {entity.start}:{entity.end}"
    if not isinstance(entity.label, str):
        raise ValueError(f"the type {place} is {entity.label!r:.60}, not a name")
    if reason := why_not_a_label(entity.label):
        raise ValueError(f"the type {place}, {quote(entity.label)}, {reason}")
    if entity.form is not None and not isinstance(entity.form, str):
        raise ValueError(f"the text {place} is {entity.form!r:.60}, not text")
    return entity


def _agrees(text: str, entity: RawEntity) -> bool:
    return 0 <= entity.start < entity.end <= len(text) and entity.form in (None, text[entity.start : entity.end])


def _convert_units(
    raw: RawSentence, text: str, entities: Sequence[RawEntity], wrong: RawEntity, report: SourceReport
) -> list[RawEntity]:
    """Return entities in code points whose offsets count UTF-16 code units, if the source may use these.

    Raises:
        ValueError: If not; with the unit that the texts of the entities prove, if they do.
    """
    proven, possible = None, None
    for unit, width in _UNITS.items():
        code_points = {offset: i for i, offset in enumerate(accumulate(map(width, text), initial=0))}
        converted = [in_text for entity in entities if (in_text := _convert(entity, code_points))]
        if len(converted) < len(entities) or any(not _agrees(text, entity) for entity in converted):
            continue
        if all(entity.form is not None for entity in entities):
            proven = proven or (unit, converted)
        possible = possible or unit
    if proven and raw.may_be_utf16 and proven[0] == "UTF-16 code units":
        report.add("converted_offsets", raw.where, raw.id, f"{len(entities)} entities by {proven[0]}")
        return proven[1]
    if proven:
        hint = f"; the texts of the entities show that the offsets count {proven[0]}, not code points"
    else:
        hint = f"; the offsets may count {possible}" if possible else ""
    raise ValueError(_describe(text, wrong) + hint)


def _convert(entity: RawEntity, code_points: Mapping[int, int]) -> RawEntity | None:
    """Return an entity with offsets in code points; None if one of its offsets is within a code point or outside."""
    start, end = code_points.get(entity.start), code_points.get(entity.end)
    if start is None or end is None or start >= end:
        return None
    return RawEntity(start, end, entity.label, entity.form)


def _has_two_units(text: str) -> bool:
    """Return whether a text has a character of two UTF-16 code units."""
    return max(text, default="") > _LAST_OF_ONE_UNIT


def _describe(text: str, entity: RawEntity) -> str:
    span = f"the entity at {entity.start}:{entity.end} ({entity.label})"
    if entity.start >= entity.end:
        return f"{span} does not begin before its end"
    if entity.start < 0 or entity.end > len(text):
        return f"{span} is not within the text, which has {len(text)} code points"
    return f"{span} is given as {quote(entity.form)}, but the text there is {quote(text[entity.start : entity.end])}"


def _resolve_overlaps(
    text: str, entities: list[Entity], raw: RawSentence, overlaps: Overlaps, report: SourceReport
) -> list[Entity]:
    """Return disjoint entities in order: of those that overlap, the longer or the shorter are kept.

    Among entities of one length, the first one is kept; among those of one span, the one that the source names first.
    """
    entities = sorted(entities, key=lambda entity: (entity.start, entity.end))
    pair = next(((a, b) for a, b in pairwise(entities) if b.start < a.end), None)
    if pair is None:
        return entities
    if overlaps == "error":
        (a, b) = pair
        raise ValueError(
            f"the entities {quote(text[a.start : a.end])} ({a.label}) and {quote(text[b.start : b.end])} ({b.label}) "
            "overlap; set `overlaps` to outermost or innermost to keep one of them"
        )
    sign = -1 if overlaps == "outermost" else 1
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: sign * (entity.end - entity.start)):
        i = bisect_left(kept, entity.start, key=lambda other: other.start)
        if (i and kept[i - 1].end > entity.start) or (i < len(kept) and kept[i].start < entity.end):
            form = quote(text[entity.start : entity.end])
            report.add("dropped_overlaps", raw.where, raw.id, f"{entity.label} {form} at {entity.start}:{entity.end}")
        else:
            kept.insert(i, entity)
    return kept
