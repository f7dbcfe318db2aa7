"""Runs the tagger that is served over every part, and scores, explains and shows what it finds in the test part."""

import json
from pathlib import Path

from koner.alignment import read_retagged
from koner.calibration import RELIABILITY_COLUMNS, outcomes, reliability
from koner.corpus import StoredSentences
from koner.errors import told_plainly
from koner.evaluation import confusion, evaluate, report, sampled, tag_pairs
from koner.html_report import write_report
from koner.outputs import write_metrics
from koner.params import load_params
from koner.parquet import count_rows
from koner.plots import plot_confusion, plot_reliability, read_table, write_table
from koner.predictions import predict, write_predictions
from koner.semeval import breakdown as semeval_breakdown
from koner.slices import generalisation, seen_surfaces, slices
from koner.tagger import Tagger

MODEL, EXPORT = Path("models/exported"), Path("metrics/export.json")
SPLIT, HISTORY = Path("data/split"), Path("plots/train/epochs.csv")
PREDICTIONS, METRICS, PLOTS = Path("data/predictions.parquet"), Path("metrics"), Path("plots/evaluate")


def main() -> None:
    params = load_params()
    # The form that is pinned, whatever the machine has.
    tagger = Tagger.load(MODEL, "cpu")
    training = SPLIT / "train.parquet"
    tagged = {"train": sampled(read_retagged(training), count_rows(training), params.seed)}
    tagged |= {part: list(read_retagged(SPLIT / f"{part}.parquet")) for part in ("development", "test")}
    found = {part: predict(tagger, sentences) for part, sentences in tagged.items()}
    predictions = found["test"]
    write_predictions(PREDICTIONS, predictions)

    figures = evaluate(predictions, tagger.settings.temperature, params.seed)
    figures["exported"] = json.loads(EXPORT.read_text(encoding="utf-8"))["from_trained"]["test"]
    breakdown = {
        "slices": slices(predictions, seen_surfaces(StoredSentences(training))),
        "semeval": semeval_breakdown(predictions),
        "generalisation": generalisation(found),
    }
    write_metrics(METRICS / "evaluate.json", figures)
    write_metrics(METRICS / "breakdown.json", breakdown)
    (METRICS / "report.txt").write_text(report(predictions), encoding="utf-8")

    confusions = {}
    for name, types_only in (("tags", False), ("types", True)):
        pairs = tag_pairs(predictions, types_only)
        confusions[name] = confusion(pairs, types_only)
        write_table(PLOTS / f"{name}.csv", [{"actual": a, "predicted": p} for a, p in pairs])
        plot_confusion(*confusions[name], f"{name} of tokens, test part", PLOTS / f"{name}.png")
    bins = {name: reliability(*outcomes(predictions, name == "after")) for name in ("before", "after")}
    rows = [{"scores": name, **row} for name, found_rows in bins.items() for row in found_rows]
    write_table(PLOTS / "reliability.csv", rows, ("scores", *RELIABILITY_COLUMNS))
    plot_reliability(bins, PLOTS / "reliability.png")
    write_report(
        PLOTS / "report.html",
        title="koner: evaluation",
        evaluation=figures,
        **breakdown,
        history=read_table(HISTORY),
        confusions=confusions,
        reliability=bins,
        predictions=predictions,
        params=json.loads(params.model_dump_json()),
    )


if __name__ == "__main__":
    with told_plainly():
        main()
