"""Scores as the reference code of the KLUE benchmark computes them for KLUE-NER: on characters without spaces.

Source: `metrics/functional.py`, `models/named_entity_recognition.py` and `data/klue_ner.py` of
https://github.com/KLUE-benchmark/KLUE-baseline, for Park et al. 2021, "KLUE: Korean Language Understanding
Evaluation", https://arxiv.org/abs/2105.09680. Figures here are 0..1; the leaderboard shows percent.

This module follows the code where its docstrings differ from it:

- Character F1 is the average over all tags (13 of KLUE-NER's six types), including O and an O before and after each
  sentence. A tag that occurs on neither side scores 1 (`zero_division=True`).
- Entity F1 is the average over the types that occur in the annotation or in the predictions; a type that occurs on one
  side only scores 0. An I tag without a B tag is no entity (seqeval, strict IOB2).
- A space is dropped with its tag: an entity that begins with a space loses its B tag and does not count.

Differences from the reference:

- After an unknown token the reference shifts the tags of the rest of the sentence by one, and a token of several
  characters in the same word gets a tag for its first character only. Here every tag stays on the characters of its
  token. This matters: perfect tags for the tokens of klue/roberta-base score 0.959 entity F1 and 0.982 character F1 by
  the reference on 800 validation sentences, 85 of them with unknown tokens, and 0.984 and 0.998 here.
- The reference drops only U+0020, although its tokenizers drop all whitespace; here all whitespace is dropped.
- The reference adds the predictions for the first and last position of the input, which it was trained to tag O, to a
  sentence; here O is added, because special tokens are neither trained on nor tagged.
- The reference truncates a sentence at the maximum input length (128 tokens by default); here the whole sentence
  counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koner.errors import KonerError
from koner.evaluation.bootstrap import group_f1, macro_f1
from koner.inference.predictions import Prediction
from koner.labels.bio import OUTSIDE, entities_to_bio, tag_type
from koner.labels.label_set import LabelSet


@dataclass(frozen=True, slots=True)
class KlueCounts:
    """The counts of each sentence that the scores are computed from; the last axis is correct, predicted, gold.

    Attributes:
        entities: (sentences, types, 3), in the order of the label set; `entity_f1` scores their sum over sentences.
        characters: (sentences, tags, 3), in the order of the label set; `char_f1` scores their sum over sentences.
    """

    entities: NDArray[np.int64]
    characters: NDArray[np.int64]


def character_tags(prediction: Prediction, labels: LabelSet) -> tuple[list[str], list[str]]:
    """Return the gold and the predicted tag of each character of a sentence that is not whitespace.

    All characters of a token get its tag: the first one a B, the others an I. A character outside all tokens gets O.

    Raises:
        KonerError: If the numbers of tags and tokens differ, an entity or token ends after the text, or a tag is
            unknown.
    """
    text, tags = prediction.text, prediction.predicted_tags
    if len(tags) != len(prediction.offsets):
        raise KonerError(f"{prediction.id}: {len(tags)} predicted tags for {len(prediction.offsets)} tokens")
    if any(end > len(text) for end in (*(e.end for e in prediction.gold), *(end for _, end in prediction.offsets))):
        raise KonerError(f"{prediction.id}: an entity or token ends after the text's {len(text)} characters")
    gold = entities_to_bio(prediction.gold, len(text))
    unknown = {*gold, *tags} - labels.tag_to_id.keys()
    if unknown:
        raise KonerError(f"{prediction.id}: unknown tag '{min(unknown)}'; known tags are {', '.join(labels.tags)}")
    predicted = [OUTSIDE] * len(text)
    for (start, end), tag in zip(prediction.offsets, tags, strict=True):
        for i in range(start, end):
            if not text[i].isspace():
                predicted[i] = tag
                tag = tag if tag == OUTSIDE else f"I-{tag_type(tag)}"
    positions = [i for i, character in enumerate(text) if not character.isspace()]
    return [gold[i] for i in positions], [predicted[i] for i in positions]


def klue_scores(predictions: Sequence[Prediction], labels: LabelSet) -> dict[str, Any]:
    """Return the two figures of the benchmark, and the scores by type.

    Returns:
        `entity_f1` and `char_f1`, and under `by_type` precision, recall, F1 and the number of gold entities. A type
        that does not occur has zeros; `entity_f1` is 0 without any entity, and everything is 0 without predictions.

    Raises:
        KonerError: As `character_tags` does.
    """
    # Imported on use: scikit-learn takes a second to import, and a comparison or a model card needs no scores.
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2
    from sklearn.metrics import f1_score

    by_type = {type_: {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 0} for type_ in labels.types}
    if not predictions:
        return {"entity_f1": 0.0, "char_f1": 0.0, "by_type": by_type}
    gold, predicted = _bracketed(predictions, labels)
    macro_f1 = 0.0
    if any(tag[0] == "B" for tag in chain(*gold, *predicted)):
        # The reference passes all sentences to seqeval as one. The O at each end closes every entity, so scoring by
        # sentence finds the same entities, in linear instead of quadratic time.
        numbered = [_numbered(tags, labels) for tags in (gold, predicted)]
        report = classification_report(*numbered, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
        macro_f1 = float(report["macro avg"]["f1-score"])
        for type_, number in labels.type_to_id.items():
            if not (row := report.get(str(number))):
                continue
            by_type[type_] = {
                "precision": float(row["precision"]),
                "recall": float(row["recall"]),
                "f1": float(row["f1-score"]),
                "gold": int(row["support"]),
            }
    tag_ids = list(labels.id_to_tag)
    ids = [_ids(tags, labels) for tags in (gold, predicted)]
    macro_char_f1 = f1_score(*ids, labels=tag_ids, average="macro", zero_division=1.0)
    return {"entity_f1": macro_f1, "char_f1": float(macro_char_f1), "by_type": by_type}


def klue_counts(predictions: Sequence[Prediction], labels: LabelSet) -> KlueCounts:
    """Count entities by type and characters by tag, per sentence; the O at each end counts as a character.

    Raises:
        KonerError: As `character_tags` does.
    """
    gold_tags, predicted_tags = _bracketed(predictions, labels)
    gold, predicted = _ids(gold_tags, labels), _ids(predicted_tags, labels)
    tags, types = len(labels.tags), len(labels.types)
    sentence = np.repeat(np.arange(len(gold_tags)), np.array([len(tags) for tags in gold_tags], dtype=np.int64))

    def tally(kind: NDArray[np.int64], mask: NDArray[np.bool_], kinds: int) -> NDArray[np.int64]:
        cells = sentence[mask] * kinds + kind[mask]
        return np.bincount(cells, minlength=len(gold_tags) * kinds).reshape(len(gold_tags), kinds)

    all_characters = np.ones(len(gold), dtype=bool)
    begins_gold, begins_predicted = ((ids % 2 == 0) & (ids < tags - 1) for ids in (gold, predicted))
    same_entity = begins_gold & (gold == predicted) & (_ends(gold) == _ends(predicted))
    characters = [
        tally(gold, gold == predicted, tags),
        tally(predicted, all_characters, tags),
        tally(gold, all_characters, tags),
    ]
    entities = [
        tally(gold // 2, same_entity, types),
        tally(predicted // 2, begins_predicted, types),
        tally(gold // 2, begins_gold, types),
    ]
    return KlueCounts(np.stack(entities, axis=-1), np.stack(characters, axis=-1))


def entity_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the macro F1 of summed entity counts, (..., types, 3) to (...), over the types that occur, or else 0."""
    return macro_f1(counts, present_only=True)


def char_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the macro F1 of summed character counts, (..., tags, 3) to (...); absent tags score 1, all absent 0."""
    occurs = (counts[..., 1:] > 0).any(axis=-1)
    return np.where(occurs.any(axis=-1), np.where(occurs, group_f1(counts), 1.0).mean(axis=-1), 0.0)


def _bracketed(predictions: Sequence[Prediction], labels: LabelSet) -> tuple[list[list[str]], list[list[str]]]:
    pairs = [character_tags(prediction, labels) for prediction in predictions]
    return [[OUTSIDE, *gold, OUTSIDE] for gold, _ in pairs], [[OUTSIDE, *predicted, OUTSIDE] for _, predicted in pairs]


def _numbered(tags: Sequence[Sequence[str]], labels: LabelSet) -> list[list[str]]:
    """Return tags with the positions of the types as names: seqeval strips hyphens from both ends of a name."""
    names = {tag: f"{tag[0]}-{i // 2}" for tag, i in labels.tag_to_id.items()} | {OUTSIDE: OUTSIDE}
    return [[names[tag] for tag in sentence] for sentence in tags]


def _ids(tags: Sequence[Sequence[str]], labels: LabelSet) -> NDArray[np.int64]:
    """Return the concatenated tag ids of all sentences: 2t for B and 2t + 1 for I of type t, O last."""
    return np.array([labels.tag_to_id[tag] for tag in chain(*tags)], dtype=np.int64)


def _ends(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each tag the position at which its run ends, that is, of the next tag that does not continue it."""
    # O, the last of an odd number of tags, has an even id, and a type of its own.
    type_ = ids // 2
    continues = (ids % 2 == 1) & (type_ == np.roll(type_, 1))
    breaks = np.append(np.flatnonzero(~continues), len(ids))
    return breaks[np.searchsorted(breaks, np.arange(len(ids)), side="right")]
