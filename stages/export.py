"""Export the trained model for serving, with calibrated scores."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koner.corpus.parts import DEVELOPMENT, TEST, TRAIN
from koner.export.acceptance import RULE, describe_change
from koner.export.exporter import export
from koner.params import load_params
from koner.storage.outputs import write_metrics
from koner.tokens.alignment import read_aligned, sample_aligned
from koner.versions import version_metrics
from stages import run_stage

TRAINED, EXPORTED, SPLIT = Path("models/trained"), Path("models/exported"), Path("data/split")
METRICS = Path("metrics/export.json")
# Sentences on which the ranges of activations are measured.
SAMPLES = 512

_logger = logging.getLogger("stages.export")


def main() -> None:
    params = load_params()
    parts = {part: list(read_aligned(SPLIT / f"{part}.parquet")) for part in (DEVELOPMENT, TEST)}
    samples = sample_aligned(SPLIT / f"{TRAIN}.parquet", SAMPLES)
    figures = export(TRAINED, parts, samples, EXPORTED, params.serve_precision, params.legal, params.calibration_noise)
    write_metrics(METRICS, {**figures, **version_metrics("export")})
    for precision, changes in figures["refused"].items():
        _logger.info("export: %s is refused; span F1 %s; %s", precision, _describe(changes), RULE)
    _logger.info(
        "export: %s, %.1f MB; span F1 %s; temperature %s",
        figures["precision"],
        figures["megabytes"]["exported"],
        _describe(figures["from_trained"]),
        figures["temperature"],
    )


def _describe(changes: Mapping[str, Any]) -> str:
    """Describe the changes of span F1 on all parts."""
    differences = "; ".join(describe_change(part, change) for part, change in changes.items())
    return f"against the trained model, in points: {differences}"


if __name__ == "__main__":
    run_stage(main)
