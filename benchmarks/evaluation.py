"""Measure the time that the figures of the evaluate stage take.

    python -m benchmarks.evaluation [--sentences 5000] [--runs 3]

Uses the predictions of the last `dvc repro`, repeated under new ids up to the requested number; the model is not run.
Prints the median seconds of each part and their sum, and those of `koner compare`.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from benchmarks.reporting import make_parser
from koner.errors import exit_on_error
from koner.evaluation.calibration import calibration
from koner.evaluation.comparison import compare
from koner.evaluation.error_kinds import breakdown
from koner.evaluation.evaluate import intervals
from koner.evaluation.klue import klue_scores
from koner.evaluation.slices import generalisation, seen_surfaces, slices
from koner.evaluation.wordpiece import confusion, score_tokens, tag_pairs, token_report
from koner.inference.predictions import Prediction, read_predictions, write_predictions
from koner.labels.klue import KLUE
from koner.labels.scores import span_scores

PREDICTIONS = Path("data/predictions.parquet")


def evaluation_parts(predictions: Sequence[Prediction], path: Path) -> dict[str, Callable[[], object]]:
    """Return the parts of the stage by name; the last one writes the predictions to `path`."""
    return {
        "wordpiece": lambda: score_tokens(predictions, KLUE),
        "klue": lambda: klue_scores(predictions, KLUE),
        "span": lambda: span_scores((p.gold, p.predicted) for p in predictions),
        "intervals (5 figures, 1,000 resamples)": lambda: intervals(predictions, KLUE, 0),
        "calibration": lambda: calibration(predictions, 1.0),
        "slices": lambda: slices(predictions, seen_surfaces([]), KLUE),
        "semeval": lambda: breakdown(predictions, KLUE),
        "generalisation": lambda: generalisation({"test": predictions}, KLUE),
        "confusion matrices": lambda: [confusion(tag_pairs(predictions, t), KLUE, t) for t in (False, True)],
        "seqeval's report": lambda: token_report(predictions),
        "predictions to Parquet": lambda: write_predictions(path, predictions, KLUE),
    }


def median_seconds(part: Callable[[], object], runs: int) -> float:
    """Call a function several times and return the median of the seconds."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        part()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sentences", type=int, default=5000, help="number of predictions (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each part (default: %(default)s)")
    arguments = parser.parse_args()
    repeated = enumerate(islice(cycle(read_predictions(PREDICTIONS)), arguments.sentences))
    predictions = [replace(prediction, id=f"{prediction.id}-{i}") for i, prediction in repeated]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        parts = evaluation_parts(predictions, path)
        seconds_by_part = {name: median_seconds(part, arguments.runs) for name, part in parts.items()}
        compare_seconds = median_seconds(lambda: compare(predictions, read_predictions(path), KLUE), arguments.runs)
    total = sum(seconds_by_part.values())
    for name, seconds in seconds_by_part.items():
        print(f"{seconds:8.2f} s  {name}")
    print(f"{total:8.2f} s  together, {arguments.sentences} sentences, medians of {arguments.runs}")
    print(f"{compare_seconds:8.2f} s  koner compare, reading one side from Parquet")


if __name__ == "__main__":
    with exit_on_error():
        main()
