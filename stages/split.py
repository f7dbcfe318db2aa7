"""Divides the sentences into train, development and test, and checks that their entity types balance."""

from pathlib import Path

from koner.alignment import RETAGGED_SCHEMA
from koner.errors import told_plainly
from koner.outputs import whole_folder, write_metrics
from koner.params import load_params
from koner.parquet import read_batches, write_batches
from koner.plots import plot_balance, write_table
from koner.splitting import TRAIN, VALIDATION, assert_balanced, balance, outline, share_table, split

RETAGGED, SPLIT = Path("data/retagged"), Path("data/split")
METRICS, PLOTS = Path("metrics/split.json"), Path("plots/split")


def main() -> None:
    params = load_params()
    paths = {published: RETAGGED / f"{published}.parquet" for published in (TRAIN, VALIDATION)}
    outlines = {published: outline(read_batches(path, ["text", "entities"])) for published, path in paths.items()}
    parts, removed = split(
        outlines[TRAIN], outlines[VALIDATION], params.protocol, params.development_share, params.seed
    )
    counts = {part: outlines[chosen.published].type_counts(chosen.taken) for part, chosen in parts.items()}
    found = balance(counts)
    assert_balanced(found, counts, params.max_divergence)
    with whole_folder(SPLIT) as folder:
        for part, chosen in parts.items():
            rows = chosen.rows(read_batches(paths[chosen.published]))
            write_batches(folder / f"{part}.parquet", rows, RETAGGED_SCHEMA)
    sizes = {part: int(chosen.taken.sum()) for part, chosen in parts.items()}
    write_metrics(METRICS, {"sentences": sizes, "removed": removed, "entities": counts, **found})
    write_table(PLOTS / "balance.csv", share_table(found["share"]))
    plot_balance(found["share"], PLOTS / "balance.png")


if __name__ == "__main__":
    with told_plainly():
        main()
