"""Reads the source and the base model once; everything after works from these files alone."""

from pathlib import Path

from koner.base_model import prepare_base_model
from koner.corpus import SENTENCE_SCHEMA, describe, to_row, write_rows
from koner.errors import told_plainly
from koner.outputs import whole_folder, write_metrics
from koner.params import load_params
from koner.sources import TRAIN, read_checked, read_source, watch_hint

CORPUS, BASE, METRICS = Path("data/corpus"), Path("models/base"), Path("metrics/prepare.json")


def main() -> None:
    params = load_params()
    if hint := watch_hint(params.source, params.watch):
        print(f"prepare: {hint}", flush=True)
    parts = read_checked(read_source(params.source, params.source_config, params.source_revision))
    gone = prepare_base_model(params, parts[TRAIN], BASE)
    with whole_folder(CORPUS) as folder:
        for part, sentences in parts.items():
            write_rows(folder / f"{part}.parquet", map(to_row, sentences), SENTENCE_SCHEMA)
    figures = {part: describe(sentences) for part, sentences in parts.items()}
    write_metrics(METRICS, {**figures, "dropped_pieces": len(gone)})


if __name__ == "__main__":
    with told_plainly():
        main()
