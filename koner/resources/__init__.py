"""Files that ship with the package: the corpora of the recipes, koner-mini, lists of names, and recipes."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent

SAMPLE_CORPUS = _FOLDER / "sample"
CONSULT_CORPUS = _FOLDER / "consult"
KONER_MINI = _FOLDER / "koner_mini"
NAMES = _FOLDER / "names"
RECIPES = _FOLDER / "recipes"
