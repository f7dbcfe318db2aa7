"""The `labels.yaml` beside a corpus, which names and colours its labels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from koner.labels.label_set import LabelSet
from koner.labels.styles import STYLES_FILE, read_entries
from koner.params import INCLUDED_CORPORA
from koner.storage.outputs import write_text
from koner.storage.paths import local_path


def copy_styles(source: str, folder: Path, labels: LabelSet) -> list[str]:
    """Copy the `labels.yaml` beside a corpus to a folder, and check it; write one without labels if there is none.

    Args:
        source: The parameter `source`.
        folder: The folder to write to.
        labels: The label set of the corpus.

    Returns:
        The labels in the file that are not in the label set.

    Raises:
        KonerError: If the file is not valid.
    """
    path = INCLUDED_CORPORA.get(source) or local_path(source)
    file = (path if os.path.isdir(path) else path.parent) / STYLES_FILE
    if not os.path.exists(path) or not os.path.isfile(file):
        write_text(folder / STYLES_FILE, "# The corpus names no labels and colours.\n{}\n")
        return []
    entries = read_entries(file)
    shutil.copyfile(file, folder / STYLES_FILE)
    return [label for label in entries if label not in labels.type_to_id]
