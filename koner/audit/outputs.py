"""The outputs of an audit: a table, a page, and tasks for Label Studio."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koner.audit.candidates import Candidate, by_sentence, write_candidates
from koner.audit.page import write_page
from koner.audit.tasks import write_tasks
from koner.corpus.sentences import Sentence
from koner.labels.styles import LabelStyle

TABLE, PAGE, TASKS = "candidates.csv", "audit.html", "tasks.json"


def read_changes(path: Path) -> list[dict[str, str]]:
    """Return the changes that were made while a source was read, as `SourceReport.list_in` lists them."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_outputs(
    folder: Path,
    candidates: Sequence[Candidate],
    sentences: Mapping[str, Sentence],
    styles: Sequence[LabelStyle],
    shown: int,
) -> dict[str, Any]:
    """Write the table, the page and the tasks to a folder, and return their figures.

    Args:
        folder: The folder.
        candidates: The candidates, in the order to show them.
        sentences: The sentences by their ids.
        styles: The types, in the order to show them.
        shown: The number of sentences in the page and in the tasks.
    """
    doubtful = by_sentence(candidates)
    annotation = {id_: sentences[id_].entities for id_ in doubtful}
    write_candidates(folder / TABLE, candidates)
    write_page(folder / PAGE, candidates, annotation, styles, shown)
    write_tasks(folder / TASKS, candidates, annotation, shown)
    return {
        "sentences": len(sentences),
        "entities": sum(len(sentence.entities) for sentence in sentences.values()),
        "candidates": len(candidates),
        "doubtful_sentences": len(doubtful),
        "by_check": dict(sorted(Counter(c.check for c in candidates).items())),
        "by_kind": dict(sorted(Counter(c.kind for c in candidates).items())),
    }
