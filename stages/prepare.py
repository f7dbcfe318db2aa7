"""Reads the source and the base model once; everything after works from these files alone."""

from collections.abc import Iterator
from pathlib import Path

from koner.base_model import prepare_base_model
from koner.census import Census
from koner.corpus import SENTENCE_SCHEMA, Sentence, StoredSentences, sentence_batches
from koner.crossing import Edged, noting_edged_words
from koner.errors import told_plainly
from koner.outputs import whole_folder, write_metrics
from koner.params import load_params
from koner.parquet import write_batches
from koner.sources import PARTS, TRAIN, pass_checked, read_source, watch_hint

CORPUS, BASE, METRICS = Path("data/corpus"), Path("models/base"), Path("metrics/prepare.json")


def main() -> None:
    params = load_params()
    if hint := watch_hint(params.source, params.watch):
        print(f"prepare: {hint}", flush=True)
    parts = read_source(params.source, params.source_config, params.source_revision)
    census = {part: Census() for part in PARTS}
    edged: set[Edged] = set()
    with whole_folder(CORPUS) as folder:

        def write(part: str, sentences: Iterator[Sentence]) -> int:
            counted = census[part].counting(sentences)
            noted = noting_edged_words(counted, edged) if part == TRAIN else counted
            return write_batches(folder / f"{part}.parquet", sentence_batches(noted), SENTENCE_SCHEMA)

        pass_checked(parts, write)
        gone = prepare_base_model(params, StoredSentences(folder / f"{TRAIN}.parquet"), BASE, edged)
    figures = {part: counted.metrics() for part, counted in census.items()}
    write_metrics(METRICS, {**figures, "dropped_pieces": len(gone)})


if __name__ == "__main__":
    with told_plainly():
        main()
