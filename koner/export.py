"""The served form of a trained model: its files, and the temperature that its scores need."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from koner.alignment import Retagged
from koner.calibration import fit_temperature, store_temperature
from koner.outputs import whole_folder
from koner.tagger import Tagger


def export(trained: Path, development: Sequence[Retagged], folder: Path) -> float:
    """Writes the trained model to `folder` as it is served, calibrated on the development part; gives the temperature.

    The folder stays a plain transformers model.
    """
    temperature = fit_temperature(Tagger.load(trained), development)
    with whole_folder(folder) as draft:
        shutil.copytree(trained, draft, dirs_exist_ok=True)
        store_temperature(draft, temperature)
    return temperature
