"""Compare the weak labels of pretraining with the annotation of a corpus in KLUE-NER's labels.

    python -m benchmarks.weak_labels --source FOLDER --last 1000 --teacher FOLDER

Labels the sentences of the training part by the rules and, if --teacher is a model that koner exported, by that model
and by both. Prints precision, recall and F1 of the rules by exact spans, and for each labeller which share of the
characters, inside and outside entities, gets the right tag, no tag or a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.reporting import format_table, make_parser
from koner.corpus.parts import TRAIN
from koner.corpus.sources import read_checked, read_source
from koner.errors import exit_on_error
from koner.labels.bio import IGNORE_INDEX, OUTSIDE, entities_to_bio
from koner.labels.klue import KLUE
from koner.labels.scores import span_scores, span_scores_by_type
from koner.pretraining.teacher import Teacher
from koner.pretraining.weak_labels import agreed_tag_ids, weak_entities, weak_tag_ids
from koner.text.morphemes import analyse


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--source", required=True, help="as the parameter `source`")
    parser.add_argument("--last", type=int, default=0, help="only so many sentences from the end; 0: all")
    parser.add_argument("--teacher", type=Path, help="folder of a model")
    arguments = parser.parse_args()
    sentences = read_checked(read_source(arguments.source, "ner", None))[TRAIN][-arguments.last :]
    texts = [sentence.text for sentence in sentences]
    analysed = list(analyse(texts))
    pairs = [(s.entities, weak_entities(text)[0]) for s, text in zip(sentences, analysed, strict=True)]
    rows = {**span_scores_by_type(pairs, KLUE), "all": span_scores(pairs)}
    names = ("precision", "recall", "f1")
    print(f"{len(sentences)} sentences")
    print(format_table(["rules", *names], [[label, *(f"{row[n]:.3f}" for n in names)] for label, row in rows.items()]))
    labellings = {"rules": [weak_tag_ids(text) for text in analysed]}
    if arguments.teacher:
        labellings["teacher"] = Teacher(arguments.teacher).tag_ids(texts)
        labellings["both"] = [agreed_tag_ids(*tags) for tags in zip(*labellings.values(), strict=True)]
    gold = [[KLUE.tag_to_id[tag] for tag in entities_to_bio(s.entities, len(s.text))] for s in sentences]
    head = ["labeller", "characters", "right", "no tag", "wrong"]
    print(format_table(head, [row for name, tags in labellings.items() for row in shares(name, tags, gold)]))


def shares(name: str, tags: Sequence[np.ndarray], gold: Sequence[Sequence[int]]) -> list[list[str]]:
    """Return the rows of a labeller: the shares of characters inside and outside entities by what they get."""
    found, expected = np.concatenate(tags), np.concatenate(gold)
    is_inside = expected != KLUE.tag_to_id[OUTSIDE]
    rows = []
    for place, chosen in (("inside", is_inside), ("outside", ~is_inside)):
        right, no_tag = (found == expected)[chosen].mean(), (found == IGNORE_INDEX)[chosen].mean()
        rows.append([name, place, *(f"{share:.3f}" for share in (right, no_tag, 1 - right - no_tag))])
    return rows


if __name__ == "__main__":
    with exit_on_error():
        main()
