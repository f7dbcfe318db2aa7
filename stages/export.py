"""Export the trained model for serving, with calibrated scores."""

import logging
from pathlib import Path

from koner.corpus.parts import DEVELOPMENT, TEST
from koner.export.exporter import export
from koner.params import load_params
from koner.storage.outputs import write_metrics
from koner.tokens.alignment import read_aligned
from koner.versions import version_metrics
from stages import run_stage

TRAINED, EXPORTED, SPLIT = Path("models/trained"), Path("models/exported"), Path("data/split")
METRICS = Path("metrics/export.json")

_logger = logging.getLogger("stages.export")


def main() -> None:
    params = load_params()
    parts = {part: list(read_aligned(SPLIT / f"{part}.parquet")) for part in (DEVELOPMENT, TEST)}
    figures = export(TRAINED, parts, EXPORTED, params.serve_precision, params.legal)
    write_metrics(METRICS, {**figures, **version_metrics("export")})
    points = ", ".join(f"{part} {differences['points']:+.2f}" for part, differences in figures["from_trained"].items())
    _logger.info(
        "export: %s, %.1f MB; span F1 against the trained model, in points: %s; temperature %s",
        figures["precision"],
        figures["megabytes"]["exported"],
        points,
        figures["temperature"],
    )


if __name__ == "__main__":
    run_stage(main)
