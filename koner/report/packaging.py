"""The folder that is served and published: the evaluated model with its model card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from koner.inference.model_folder import read_config
from koner.labels.label_set import LabelSet
from koner.labels.styles import STYLES_FILE, read_styles
from koner.report.model_card import write_card
from koner.storage.outputs import atomic_directory


def package(
    exported: Path,
    styles: Path,
    folder: Path,
    params: dict[str, Any],
    split: dict[str, Any],
    train: dict[str, Any],
    evaluate: dict[str, Any],
) -> None:
    """Copy the evaluated model to a folder, byte for byte, with the styles of its types, and write its model card.

    Args:
        exported: The folder of the exported model.
        styles: The file of the names and colours of its types, which becomes part of the model folder.
        folder: The folder to write; it appears complete or not at all.
        params: The values of `params.yaml`.
        split: The metrics of the stage split.
        train: The metrics of the stage train.
        evaluate: The metrics of the stage evaluate.

    Raises:
        KonerError: If the parameters or the styles are invalid.
    """
    labels = LabelSet.from_tags(read_config(exported).token_labels)
    with atomic_directory(folder) as draft:
        shutil.copytree(exported, draft, dirs_exist_ok=True)
        shutil.copyfile(styles, draft / STYLES_FILE)
        shown = read_styles(draft / STYLES_FILE, labels)
        write_card(draft, styles=shown, params=params, evaluation=evaluate, split=split, training=train)
