"""The folder that is served and published: the evaluated model with its card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from koner.model_card import write_card
from koner.outputs import whole_folder


def package(
    exported: Path,
    folder: Path,
    params: dict[str, Any],
    split: dict[str, Any],
    train: dict[str, Any],
    evaluate: dict[str, Any],
) -> None:
    """Writes the evaluated model to `folder`, byte for byte, with a card filled from this run's metrics."""
    with whole_folder(folder) as draft:
        shutil.copytree(exported, draft, dirs_exist_ok=True)
        write_card(draft, params=params, evaluation=evaluate, split=split, training=train)
