"""How long the figures of the evaluate stage take: python -m benchmarks.evaluation [--sentences 5000] [--runs 3]

Works on the predictions that the last `dvc repro` left, repeated under new ids up to the number asked for; the model is
not run. Prints the median of each part and their sum, seconds.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from koner.calibration import calibration
from koner.comparison import compare
from koner.evaluation import confusion, intervals, report, tag_pairs, wordpiece_scores
from koner.klue_protocol import klue_scores
from koner.predictions import read_predictions, write_predictions
from koner.scoring import span_scores
from koner.semeval import breakdown
from koner.slices import generalisation, seen_surfaces, slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    found = read_predictions(Path("data/predictions.parquet"))
    predictions = [
        dataclasses.replace(p, id=f"{p.id}-{i}") for i, p in enumerate(islice(cycle(found), arguments.sentences))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        parts: dict[str, Callable[[], object]] = {
            "wordpiece": lambda: wordpiece_scores(predictions),
            "klue": lambda: klue_scores(predictions),
            "span": lambda: span_scores((p.gold, p.predicted) for p in predictions),
            "intervals (5 figures, 1,000 resamples)": lambda: intervals(predictions, 0),
            "calibration": lambda: calibration(predictions, 1.0),
            "slices": lambda: slices(predictions, seen_surfaces([])),
            "semeval": lambda: breakdown(predictions),
            "generalisation": lambda: generalisation({"test": predictions}),
            "confusion matrices": lambda: [confusion(tag_pairs(predictions, t), t) for t in (False, True)],
            "seqeval's report": lambda: report(predictions),
            "predictions to Parquet": lambda: write_predictions(path, predictions),
        }
        medians = {name: median(part, arguments.runs) for name, part in parts.items()}
        compared = median(lambda: compare(predictions, read_predictions(path)), arguments.runs)
    for name, seconds in medians.items():
        print(f"{seconds:8.2f} s  {name}")
    print(f"{sum(medians.values()):8.2f} s  together, {arguments.sentences} sentences, medians of {arguments.runs}")
    print(f"{compared:8.2f} s  koner compare, reading one side from Parquet")


def median(part: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        part()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
