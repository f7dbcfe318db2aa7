"""Turns the trained model into the form that is served, and makes its scores honest."""

from pathlib import Path

from koner.alignment import read_retagged
from koner.errors import told_plainly
from koner.export import DEVELOPMENT, export
from koner.outputs import write_metrics
from koner.params import load_params

TRAINED, EXPORTED, SPLIT = Path("models/trained"), Path("models/exported"), Path("data/split")
METRICS = Path("metrics/export.json")


def main() -> None:
    params = load_params()
    parts = {part: list(read_retagged(SPLIT / f"{part}.parquet")) for part in (DEVELOPMENT, "test")}
    figures = export(TRAINED, parts, EXPORTED, params.serve_precision, params.legal, params.outside_bias)
    write_metrics(METRICS, figures)
    apart = ", ".join(f"{part} {found['points']:+.2f}" for part, found in figures["from_trained"].items())
    print(
        f"export: {figures['precision']}, {figures['megabytes']['exported']:.1f} MB; points of span F1 from the "
        f"trained model: {apart}; bias on O {figures['outside_bias']:+.2f}; scores at temperature "
        f"{figures['temperature']}",
        flush=True,
    )


if __name__ == "__main__":
    with told_plainly():
        main()
