"""Weak labels: KLUE-NER's tags for the characters of raw text, by dictionaries and rules instead of people."""

from __future__ import annotations

import numpy as np

from koner.labels.bio import IGNORE_INDEX, OUTSIDE, Entity, entities_to_bio
from koner.labels.klue import KLUE
from koner.pretraining.weak_names import find_names
from koner.pretraining.weak_numbers import find_numbers
from koner.text.morphemes import AnalysedText


def weak_entities(analysed: AnalysedText) -> tuple[list[Entity], list[tuple[int, int]]]:
    """Find the entities of a text.

    Returns:
        Disjoint entities, in order; of overlapping ones the longer counts. And the spans of words that may be a part
        of an entity, but that the rules, Kiwi and mecab-ko-dic do not agree on.
    """
    names, doubtful = find_names(analysed)
    candidates = sorted([*names, *find_numbers(analysed.text)], key=lambda e: (e.start - e.end, e.start))
    taken = np.zeros(len(analysed.text), bool)
    entities = []
    for entity in candidates:
        span = slice(entity.start, entity.end)
        if taken[span].any():
            doubtful.append((entity.start, entity.end))
        else:
            taken[span] = True
            entities.append(entity)
    return sorted(entities), doubtful


def weak_tag_ids(analysed: AnalysedText) -> np.ndarray:
    """Return the id of a BIO tag for each character of a text, int8; `IGNORE_INDEX` where the tag is in doubt."""
    entities, doubtful = weak_entities(analysed)
    tags = np.array([KLUE.tag_to_id[tag] for tag in entities_to_bio(entities, len(analysed.text))], np.int8)
    outside = tags == KLUE.tag_to_id[OUTSIDE]
    for start, end in doubtful:
        tags[start:end][outside[start:end]] = IGNORE_INDEX
    return tags


def agreed_tag_ids(rules: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """Return the tags of a text's characters by two labellers, int8 (characters,).

    A character that both label differently has none, `IGNORE_INDEX`. If the rules are in doubt, the teacher decides.
    """
    has_tag = (rules == teacher) | (rules == IGNORE_INDEX)
    return np.where(has_tag, teacher, np.int8(IGNORE_INDEX))
