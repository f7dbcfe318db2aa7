"""Scores as the KLUE benchmark's reference code counts them for KLUE-NER: on characters, spaces dropped.

Source: `metrics/functional.py`, `models/named_entity_recognition.py` and `data/klue_ner.py` of
https://github.com/KLUE-benchmark/KLUE-baseline, for Park et al. 2021, "KLUE: Korean Language Understanding
Evaluation", https://arxiv.org/abs/2105.09680. Figures here are 0..1; the leaderboard shows percent.

Followed as the code has it, not as its docstrings say:

- Character F1 averages over all 13 tags, O and the O before and after each sentence among them. A tag that neither
  side ever has scores 1 (`zero_division=True`).
- Entity F1 averages over the types that the annotation or the prediction has an entity of, so a type that neither has
  does not count; one that a single side has scores 0. An I without its B makes no entity (seqeval, strict IOB2).
- A space takes its tag with it: an entity annotated from a space on loses its B, and so counts for nothing.

Departures:

- After an unknown token the reference stays one tag behind for the rest of the sentence, and beside one, in its word,
  a token of several characters gets a tag for the first alone. Here every tag stays on the characters of its token.
  This is worth points: perfect token tags for klue/roberta-base's tokens score 0.959 entity F1 and 0.982 character F1
  by the reference on 800 validation sentences, 85 of them with unknown tokens, and 0.984 and 0.998 here.
- It drops U+0020 alone, though its tokenizers drop all whitespace; here all whitespace goes.
- It brackets a prediction with what the model says of the first and last position of its input, which it was trained
  to call O; here the brackets are O, as special tokens are never trained on or tagged.
- It cuts a sentence at the model's longest input (128 tokens by default); here sentences count whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from sklearn.metrics import f1_score

from koner.errors import KonerError
from koner.labels import OUTSIDE, TAG_TO_ID, TAGS, TYPES, tags_of
from koner.predictions import Prediction

_KNOWN_TAGS = frozenset(TAGS)
_GOES_ON_AS = {tag: tag if tag == OUTSIDE else f"I-{tag[2:]}" for tag in TAGS}
# By tag id. O is of a type of its own, past the last.
_TYPE_OF = np.array([len(TYPES) if tag == OUTSIDE else TYPES.index(tag[2:]) for tag in TAGS])
_BEGINS = np.array([tag[0] == "B" for tag in TAGS])
_CONTINUES = np.array([tag[0] == "I" for tag in TAGS])


@dataclass(frozen=True, slots=True)
class KlueCounts:
    """What the scores are made of, by sentence, for resampling.

    `entities` is (sentences, 6, 3), the types as in `TYPES`; `characters` is (sentences, 13, 3), the tags as in `TAGS`.
    The last axis is correct, predicted, gold. Summed over sentences, `entity_f1` and `char_f1` score them.
    """

    entities: NDArray[np.int64]
    characters: NDArray[np.int64]


def character_tags(prediction: Prediction) -> tuple[list[str], list[str]]:
    """The gold and the predicted tag of each character of a sentence that is not whitespace.

    A token's tag goes to all its characters, a B to the first alone and I to the rest; a character of no token has O.
    Raises `KonerError` where tags and tokens differ in number, an entity or token reaches past the text, or a tag is
    unknown.
    """
    text, tags = prediction.text, prediction.predicted_tags
    if len(tags) != len(prediction.offsets):
        raise KonerError(f"{prediction.id}: {len(tags)} predicted tags for {len(prediction.offsets)} tokens")
    if any(end > len(text) for end in (*(e.end for e in prediction.gold), *(end for _, end in prediction.offsets))):
        raise KonerError(f"{prediction.id}: an entity or token reaches past the text's {len(text)} characters")
    gold = tags_of(prediction.gold, len(text))
    unknown = {*gold, *tags} - _KNOWN_TAGS
    if unknown:
        raise KonerError(f"{prediction.id}: unknown tag '{min(unknown)}'; known are {', '.join(TAGS)}")
    predicted = [OUTSIDE] * len(text)
    for (start, end), tag in zip(prediction.offsets, tags, strict=True):
        for i in range(start, end):
            if not text[i].isspace():
                predicted[i] = tag
                tag = _GOES_ON_AS[tag]
    kept = [i for i, character in enumerate(text) if not character.isspace()]
    return [gold[i] for i in kept], [predicted[i] for i in kept]


def klue_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The benchmark's two figures, `entity_f1` and `char_f1`, and precision, recall, F1 and gold entities `by_type`.

    A type that never occurs has 0 in `by_type`; without any entity `entity_f1` is 0, and without predictions all is.
    Raises `KonerError` as `character_tags` does.
    """
    by_type = {type_: {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 0} for type_ in TYPES}
    if not predictions:
        return {"entity_f1": 0.0, "char_f1": 0.0, "by_type": by_type}
    gold, predicted = _bracketed(predictions)
    macro_f1 = 0.0
    if any(tag[0] == "B" for tag in chain(*gold, *predicted)):
        # The reference gives seqeval all sentences as one. Their brackets end every entity, so it finds the same ones
        # sentence by sentence, in time that does not grow with the square of the text.
        report = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
        macro_f1 = float(report["macro avg"]["f1-score"])
        for type_ in by_type.keys() & report.keys():
            row = report[type_]
            by_type[type_] = {
                "precision": float(row["precision"]),
                "recall": float(row["recall"]),
                "f1": float(row["f1-score"]),
                "gold": int(row["support"]),
            }
    tag_ids = list(range(len(TAGS)))
    macro_char_f1 = f1_score(_ids(gold), _ids(predicted), labels=tag_ids, average="macro", zero_division=1.0)
    return {"entity_f1": macro_f1, "char_f1": float(macro_char_f1), "by_type": by_type}


def klue_counts(predictions: Sequence[Prediction]) -> KlueCounts:
    """Counts entities by type and characters by tag, sentence by sentence; brackets count as characters tagged O.

    Raises `KonerError` as `character_tags` does.
    """
    gold_tags, predicted_tags = _bracketed(predictions)
    gold, predicted = _ids(gold_tags), _ids(predicted_tags)
    sentence = np.repeat(np.arange(len(gold_tags)), np.array([len(tags) for tags in gold_tags], dtype=np.int64))

    def tally(kind: NDArray[np.int64], where: NDArray[np.bool_], kinds: int) -> NDArray[np.int64]:
        cells = sentence[where] * kinds + kind[where]
        return np.bincount(cells, minlength=len(gold_tags) * kinds).reshape(len(gold_tags), kinds)

    everywhere = np.ones(len(gold), dtype=bool)
    begins_gold, begins_predicted = _BEGINS[gold], _BEGINS[predicted]
    same_entity = begins_gold & (gold == predicted) & (_ends(gold) == _ends(predicted))
    characters = [
        tally(gold, gold == predicted, len(TAGS)),
        tally(predicted, everywhere, len(TAGS)),
        tally(gold, everywhere, len(TAGS)),
    ]
    entities = [
        tally(_TYPE_OF[gold], same_entity, len(TYPES)),
        tally(_TYPE_OF[predicted], begins_predicted, len(TYPES)),
        tally(_TYPE_OF[gold], begins_gold, len(TYPES)),
    ]
    return KlueCounts(np.stack(entities, axis=-1), np.stack(characters, axis=-1))


def entity_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro F1 of summed entity counts, (..., 6, 3) to (...): the mean over types that occur, 0 where none does."""
    f1, occurs = _f1(counts)
    return np.asarray(f1.sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1))


def char_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro F1 of summed character counts, (..., 13, 3) to (...): absent tags score 1, and 0 where all are absent."""
    f1, occurs = _f1(counts)
    return np.where(occurs.any(axis=-1), np.where(occurs, f1, 1.0).mean(axis=-1), 0.0)


def _f1(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """F1 of each row of counts, 0 where it is empty, and which rows are not."""
    total = counts[..., 1] + counts[..., 2]
    return 2 * counts[..., 0] / np.maximum(total, 1), total > 0


def _bracketed(predictions: Sequence[Prediction]) -> tuple[list[list[str]], list[list[str]]]:
    pairs = [character_tags(prediction) for prediction in predictions]
    return [[OUTSIDE, *gold, OUTSIDE] for gold, _ in pairs], [[OUTSIDE, *found, OUTSIDE] for _, found in pairs]


def _ids(tags: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """The tag ids of all sentences in a row."""
    return np.array([TAG_TO_ID[tag] for tag in chain(*tags)], dtype=np.int64)


def _ends(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each tag of bracketed sentences, where the run that it stands in ends: the next tag that starts anew."""
    type_ = _TYPE_OF[ids]
    goes_on = _CONTINUES[ids] & (type_ == np.roll(type_, 1))
    breaks = np.append(np.flatnonzero(~goes_on), len(ids))
    return breaks[np.searchsorted(breaks, np.arange(len(ids)), side="right")]
