"""Runs the tagger that is served over the test part, and scores what it finds."""

from pathlib import Path

from koner.alignment import read_retagged
from koner.errors import told_plainly
from koner.evaluation import confusion, evaluate, report, tag_pairs
from koner.outputs import write_metrics
from koner.plots import plot_confusion, write_table
from koner.predictions import predict, write_predictions
from koner.tagger import Tagger

MODEL, TEST = Path("models/ner"), Path("data/split/test.parquet")
PREDICTIONS, REPORT = Path("data/predictions.parquet"), Path("metrics/report.txt")
METRICS, PLOTS = Path("metrics/evaluate.json"), Path("plots/evaluate")


def main() -> None:
    predictions = predict(Tagger.load(MODEL), list(read_retagged(TEST)))
    write_predictions(PREDICTIONS, predictions)
    write_metrics(METRICS, evaluate(predictions))
    REPORT.write_text(report(predictions), encoding="utf-8")
    for name, types_only in (("tags", False), ("types", True)):
        pairs = tag_pairs(predictions, types_only)
        write_table(PLOTS / f"{name}.csv", [{"actual": a, "predicted": p} for a, p in pairs])
        plot_confusion(*confusion(pairs, types_only), f"{name} of tokens, test part", PLOTS / f"{name}.png")


if __name__ == "__main__":
    with told_plainly():
        main()
