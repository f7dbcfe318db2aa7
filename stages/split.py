"""Split the sentences into train, development and test, and check that their entity types are balanced."""

from pathlib import Path

from koner.corpus.label_files import read_labels
from koner.corpus.parts import PUBLISHED_PARTS, TRAIN, stored_parts
from koner.corpus.splitting import balance, check_balance, count_unique, share_table, split, summarize
from koner.params import load_params
from koner.report.plots import plot_balance
from koner.storage.outputs import atomic_directory, write_metrics
from koner.storage.parquet import read_batches, write_batches
from koner.storage.tables import write_table
from koner.tokens.alignment import ALIGNED_SCHEMA
from koner.versions import version_metrics
from stages import run_stage

LABELS, RETAGGED, SPLIT = Path("data/corpus/labels.json"), Path("data/retagged"), Path("data/split")
METRICS, PLOTS = Path("metrics/split.json"), Path("plots/split")


def main() -> None:
    params = load_params()
    labels = read_labels(LABELS)
    paths = {part: RETAGGED / f"{part}.parquet" for part in stored_parts(RETAGGED)}
    summaries = {part: summarize(read_batches(path, ["text", "entities"]), labels) for part, path in paths.items()}
    train, validation, test = (summaries.get(part) for part in PUBLISHED_PARTS)
    parts, removed = split(train, validation, params.protocol, params.development_share, params.seed, test)
    counts = {
        part: summaries[selection.published_part].count_types(selection.mask) for part, selection in parts.items()
    }
    balances = balance(counts)
    check_balance(balances, counts, params.max_divergence)
    with atomic_directory(SPLIT) as folder:
        for part, selection in parts.items():
            rows = selection.filter(read_batches(paths[selection.published_part]))
            write_batches(folder / f"{part}.parquet", rows, ALIGNED_SCHEMA)
    sizes = {part: int(selection.mask.sum()) for part, selection in parts.items()}
    figures = {
        "sentences": sizes,
        "removed": removed,
        "unique": count_unique(summaries[TRAIN], parts),
        "entities": counts,
        **balances,
    }
    write_metrics(METRICS, {**figures, **version_metrics("split")})
    write_table(PLOTS / "balance.csv", share_table(balances["share"]))
    plot_balance(balances["share"], PLOTS / "balance.png")


if __name__ == "__main__":
    run_stage(main)
