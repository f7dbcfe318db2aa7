"""Read the source and the base model once; all later stages use these files only."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from koner.corpus.label_files import LABELS_FILE, write_labels
from koner.corpus.label_mapping import LabelMapping
from koner.corpus.parts import TRAIN
from koner.corpus.sentences import SENTENCE_SCHEMA, Sentence, StoredSentences, sentence_batches
from koner.corpus.source_report import Rules, SourceReport
from koner.corpus.sources import read_source, stream_checked, watch_hint
from koner.corpus.statistics import CorpusStatistics
from koner.corpus.style_file import copy_styles
from koner.encoder.pruning import BoundaryWord, collect_boundary_words
from koner.labels.label_set import LabelSet
from koner.params import Params, load_params
from koner.storage.outputs import atomic_directory, write_metrics
from koner.storage.parquet import write_batches
from koner.versions import version_metrics
from stages import run_stage

CORPUS, BASE, METRICS = Path("data/corpus"), Path("models/base"), Path("metrics/prepare.json")
# What was changed while the source was read, a row for each change.
CHANGES = "changes.csv"

_logger = logging.getLogger("stages.prepare")


def main() -> None:
    params = load_params()
    if hint := watch_hint(params.source, params.watch):
        _logger.warning("prepare: %s", hint)
    report = SourceReport()
    statistics: dict[str, CorpusStatistics] = {}
    mapping = LabelMapping(params.label_map, params.labels)
    boundary_words: set[BoundaryWord] = set()
    with atomic_directory(CORPUS) as folder:

        def write(part: str, sentences: Iterator[Sentence]) -> int:
            statistics[part] = CorpusStatistics()
            sentences = statistics[part].count(sentences)
            if part == TRAIN:
                sentences = collect_boundary_words(sentences, boundary_words)
            return write_sentences(folder / f"{part}.parquet", sentences)

        with report.list_in(folder / CHANGES):
            labels = read_parts(params, folder, write, mapping, report)
        write_labels(folder / LABELS_FILE, labels)
        if unknown := copy_styles(params.source, folder, labels):
            _logger.warning("prepare: no label of the corpus is %s, which labels.yaml describes", ", ".join(unknown))
        # Imported on use, as is `carve_test`: torch and transformers take seconds to import, scikit-learn one, and
        # most mistakes in the parameters and the source are reported before they are needed.
        from koner.encoder.base_model import prepare_base_model

        training = StoredSentences(folder / f"{TRAIN}.parquet")
        pruned = prepare_base_model(params, training, BASE, boundary_words, labels)
    figures = {part: statistics[part].metrics(labels) for part in statistics}
    changes = {**mapping.metrics(), **report.metrics(), "dropped_pieces": len(pruned)}
    write_metrics(METRICS, {**figures, **changes, **version_metrics("prepare")})


def read_parts(
    params: Params,
    folder: Path,
    write: Callable[[str, Iterator[Sentence]], int],
    mapping: LabelMapping,
    report: SourceReport,
) -> LabelSet:
    """Check the sentences of all parts, map their labels, and pass them to `write`; return the labels of the corpus.

    A source of one part gets its test part drawn.
    """
    parts = read_source(
        params.source,
        params.source_config,
        params.source_revision,
        source_format=params.source_format,
        encoding=params.encoding,
        report=report,
    )
    rules = Rules(params.overlaps, params.illegal_bio)
    if list(parts) != [TRAIN]:
        stream_checked(parts, lambda part, sentences: write(part, mapping.apply(sentences)), rules, report)
        return mapping.label_set()
    whole = folder / "whole.parquet"
    stream_checked(parts, lambda _, sentences: write_sentences(whole, mapping.apply(sentences)), rules, report)
    labels = mapping.label_set()
    from koner.corpus.carving import carve_test

    for part, sentences in carve_test(whole, labels, params.test_share, params.seed).items():
        write(part, sentences)
    whole.unlink()
    return labels


def write_sentences(path: Path, sentences: Iterator[Sentence]) -> int:
    """Write sentences to a Parquet file and return their number."""
    return write_batches(path, sentence_batches(sentences), SENTENCE_SCHEMA)


if __name__ == "__main__":
    run_stage(main)
