"""The doubtful sentences as tasks for Label Studio, with the suggestion and the annotation as predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from koner.annotation.label_studio import prediction, task_with_predictions
from koner.audit.candidates import Candidate, apply_candidates, by_sentence
from koner.audit.fingerprints import FINGERPRINT_FIELD, fingerprint
from koner.corpus.formats.records import write_json_array
from koner.labels.bio import Entity

# The names under which Label Studio shows the predictions.
SUGGESTION, ANNOTATION = "suggestion", "annotation"


def write_tasks(
    path: Path, candidates: Sequence[Candidate], annotation: Mapping[str, Sequence[Entity]], shown: int
) -> None:
    """Write the doubtful sentences as tasks to import.

    The data of a task holds the id, the text, what is in doubt, and the fingerprint of the sentence, by which
    `koner audit apply` sees whether it changed.

    Args:
        path: The file to write.
        candidates: All candidates, in the order of the tasks.
        annotation: The annotated entities of each sentence with a candidate, by its id.
        shown: The number of sentences.
    """

    def tasks() -> Iterator[dict[str, Any]]:
        for id_, found in list(by_sentence(candidates).items())[:shown]:
            text, annotated = found[0].text, annotation[id_]
            suggested = apply_candidates(annotated, found)
            predictions = [
                prediction(text, suggested, model_version=SUGGESTION, score=max(c.score for c in found)),
                prediction(text, annotated, model_version=ANNOTATION),
            ]
            doubts = "; ".join(map(describe, found))
            data = {"id": id_, "doubts": doubts, FINGERPRINT_FIELD: fingerprint(text, annotated)}
            yield task_with_predictions(text, predictions, data=data)

    write_json_array(path, tasks())


def describe(candidate: Candidate) -> str:
    """Return what is in doubt in a line, such as `type: 서울 LC → 서울 OG`."""
    sides = [
        f"{candidate.text[e.start : e.end]} {e.label}" if e else "none"
        for e in (candidate.annotated, candidate.suggested)
    ]
    change = " → ".join(sides) if candidate.types else ""
    note = f"({candidate.note})" if candidate.note else ""
    return f"{candidate.kind}: " + " ".join(filter(None, (change, note)))
