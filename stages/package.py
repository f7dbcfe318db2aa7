"""Write the folder that is served and published: the evaluated model with its model card."""

import json
from pathlib import Path

from koner.params import load_params
from koner.report.packaging import package
from koner.versions import version_metrics
from stages import run_stage

EXPORTED, STYLES = Path("models/exported"), Path("data/corpus/labels.yaml")
MODEL, METRICS = Path("models/ner"), Path("metrics")


def main() -> None:
    # The stage writes no metrics; this logs a warning if versions differ.
    version_metrics("package")
    figures = {name: json.loads((METRICS / f"{name}.json").read_text()) for name in ("split", "train", "evaluate")}
    package(EXPORTED, STYLES, MODEL, load_params().model_dump(), **figures)


if __name__ == "__main__":
    run_stage(main)
