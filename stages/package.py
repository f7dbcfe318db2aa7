"""Puts the evaluated model and its card into the folder that is served and published."""

import json
from pathlib import Path

from koner.errors import told_plainly
from koner.packaging import package
from koner.params import load_params

EXPORTED, MODEL, METRICS = Path("models/exported"), Path("models/ner"), Path("metrics")


def main() -> None:
    figures = {name: json.loads((METRICS / f"{name}.json").read_text()) for name in ("split", "train", "evaluate")}
    package(EXPORTED, MODEL, load_params().model_dump(), **figures)


if __name__ == "__main__":
    with told_plainly():
        main()
