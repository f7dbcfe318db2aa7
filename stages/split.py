"""Divides the sentences into train, development and test, and checks that their entity types balance."""

from pathlib import Path

from koner.alignment import RETAGGED_SCHEMA, read_retagged, retagged_to_row
from koner.corpus import write_rows
from koner.errors import told_plainly
from koner.outputs import whole_folder, write_metrics
from koner.params import load_params
from koner.plots import plot_balance, write_table
from koner.splitting import assert_balanced, balance, share_table, split, type_counts

RETAGGED, SPLIT = Path("data/retagged"), Path("data/split")
METRICS, PLOTS = Path("metrics/split.json"), Path("plots/split")


def main() -> None:
    params = load_params()
    train, validation = (list(read_retagged(RETAGGED / f"{part}.parquet")) for part in ("train", "validation"))
    parts, removed = split(train, validation, params.protocol, params.development_share, params.seed)
    counts = {part: type_counts(sentences) for part, sentences in parts.items()}
    found = balance(counts)
    assert_balanced(found, counts, params.max_divergence)
    with whole_folder(SPLIT) as folder:
        for part, sentences in parts.items():
            write_rows(folder / f"{part}.parquet", map(retagged_to_row, sentences), RETAGGED_SCHEMA)
    sizes = {part: len(sentences) for part, sentences in parts.items()}
    write_metrics(METRICS, {"sentences": sizes, "removed": removed, "entities": counts, **found})
    write_table(PLOTS / "balance.csv", share_table(found["share"]))
    plot_balance(found["share"], PLOTS / "balance.png")


if __name__ == "__main__":
    with told_plainly():
        main()
