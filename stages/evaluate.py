"""Run the tagger that is served over every part, then score, explain and show its predictions."""

import json
from pathlib import Path

from koner.corpus.parts import DEVELOPMENT, TEST, TRAIN
from koner.corpus.sentences import StoredSentences
from koner.evaluation.calibration import RELIABILITY_COLUMNS, reliability, score_outcomes
from koner.evaluation.error_kinds import breakdown
from koner.evaluation.evaluate import draw_sample, evaluate
from koner.evaluation.slices import generalisation, seen_surfaces, slices
from koner.evaluation.wordpiece import confusion, tag_pairs, token_report
from koner.inference.predictions import predict, write_predictions
from koner.inference.tagger import Tagger
from koner.labels.styles import read_styles
from koner.params import load_params
from koner.report.html import write_report
from koner.report.plots import plot_confusion, plot_epochs, plot_reliability
from koner.storage.outputs import write_metrics, write_text
from koner.storage.parquet import count_rows
from koner.storage.tables import read_table, write_table
from koner.tokens.alignment import read_aligned
from koner.versions import version_metrics
from stages import run_stage

MODEL, EXPORT = Path("models/exported"), Path("metrics/export.json")
STYLES, SPLIT, HISTORY = Path("data/corpus/labels.yaml"), Path("data/split"), Path("plots/train/epochs.csv")
PREDICTIONS, METRICS, PLOTS = Path("data/predictions.parquet"), Path("metrics"), Path("plots/evaluate")


def main() -> None:
    params = load_params()
    # On the CPU on every machine, so that the form that `dvc.lock` pins is evaluated.
    tagger = Tagger.load(MODEL, "cpu")
    training = SPLIT / f"{TRAIN}.parquet"
    sentences = {TRAIN: draw_sample(read_aligned(training), count_rows(training), params.seed)}
    sentences |= {part: list(read_aligned(SPLIT / f"{part}.parquet")) for part in (DEVELOPMENT, TEST)}
    predictions = {part: predict(tagger, sentences[part]) for part in sentences}
    test = predictions[TEST]
    labels = tagger.label_set
    write_predictions(PREDICTIONS, test, labels)

    figures = evaluate(test, labels, tagger.settings.temperature, params.seed)
    figures["exported"] = json.loads(EXPORT.read_text(encoding="utf-8"))["from_trained"][TEST]
    details = {
        "slices": slices(test, seen_surfaces(StoredSentences(training)), labels),
        "semeval": breakdown(test, labels),
        "generalisation": generalisation(predictions, labels),
    }
    write_metrics(METRICS / "evaluate.json", {**figures, **version_metrics("evaluate")})
    write_metrics(METRICS / "breakdown.json", details)
    write_text(METRICS / "report.txt", token_report(test))

    confusions = {}
    for name, types_only in (("tags", False), ("types", True)):
        pairs = tag_pairs(test, types_only)
        confusions[name] = confusion(pairs, labels, types_only)
        write_table(PLOTS / f"{name}.csv", [{"actual": a, "predicted": p} for a, p in pairs])
        plot_confusion(*confusions[name], f"{name} of tokens, test part", PLOTS / f"{name}.png")
    bins = {name: reliability(*score_outcomes(test, calibrated=name == "after")) for name in ("before", "after")}
    rows = [{"scores": name, **row} for name, bin_rows in bins.items() for row in bin_rows]
    write_table(PLOTS / "reliability.csv", rows, ("scores", *RELIABILITY_COLUMNS))
    plot_reliability(bins, PLOTS / "reliability.png")
    history = read_table(HISTORY)
    # Drawn here, not by the stage train, so that a change of a plot does not train again.
    plot_epochs(history, HISTORY.with_suffix(".png"))
    write_report(
        PLOTS / "report.html",
        title="koner: evaluation",
        evaluation=figures,
        **details,
        history=history,
        confusions=confusions,
        reliability=bins,
        predictions=test,
        styles=read_styles(STYLES, labels),
        params=json.loads(params.model_dump_json()),
    )


if __name__ == "__main__":
    run_stage(main)
