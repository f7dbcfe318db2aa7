"""The file of a corpus that holds its label set, from which the stages after `prepare` read it."""

from __future__ import annotations

import json
from pathlib import Path

from koner.errors import KonerError
from koner.labels.label_set import LabelSet
from koner.storage.outputs import write_text

LABELS_FILE = "labels.json"


def write_labels(path: Path, labels: LabelSet) -> None:
    """Write a label set as JSON."""
    write_text(path, json.dumps({"labels": labels.types}, indent=2, ensure_ascii=False) + "\n")


def read_labels(path: Path) -> LabelSet:
    """Return the label set that `write_labels` wrote.

    Raises:
        KonerError: If the file does not exist or holds something else.
    """
    try:
        return LabelSet(tuple(json.loads(path.read_text(encoding="utf-8"))["labels"]))
    except FileNotFoundError:
        raise KonerError(f"{path} is missing; run `dvc repro`") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise KonerError(f"{path} holds no label set; run `dvc repro`") from None
