"""Find candidates for annotation errors: a table, a page, and tasks for Label Studio."""

import logging
from pathlib import Path

from koner.audit.candidates import join_candidates
from koner.audit.checks import run_checks, trimmed_candidates
from koner.audit.out_of_sample import read_out_of_sample
from koner.audit.outputs import read_changes, write_outputs
from koner.audit.params import load_audit_params
from koner.audit.ranking import find_candidates
from koner.corpus.label_files import read_labels
from koner.corpus.sentences import StoredSentences
from koner.labels.styles import read_styles
from koner.storage.outputs import write_metrics
from koner.versions import version_metrics
from stages import run_stage

CORPUS = Path("../../data/corpus")
LABELS, STYLES, CHANGES = CORPUS / "labels.json", CORPUS / "labels.yaml", CORPUS / "changes.csv"
TRAINING = Path("../../data/retagged/train.parquet")
VERSIONS = Path("../versions.yaml")
PREDICTIONS = Path("data/out_of_sample")
METRICS = Path("metrics.json")

_logger = logging.getLogger("stages.audit.find")


def main() -> None:
    params = load_audit_params()
    sentences = {sentence.id: sentence for sentence in StoredSentences(TRAINING)}
    predictions = [p for fold in params.folds for p in read_out_of_sample(PREDICTIONS / f"{fold}.parquet")]
    texts = {id_: sentence.text for id_, sentence in sentences.items()}
    of_checks = [*trimmed_candidates(read_changes(CHANGES), texts), *run_checks(list(sentences.values()))]
    candidates = join_candidates(find_candidates(predictions), of_checks)
    styles = read_styles(STYLES, read_labels(LABELS))
    figures = write_outputs(Path(), candidates, sentences, styles, params.shown)
    write_metrics(METRICS, {**figures, **version_metrics("find", VERSIONS)})
    counts = figures["candidates"], figures["doubtful_sentences"], len(sentences)
    _logger.info("find: %d candidates in %d of %d sentences", *counts)


if __name__ == "__main__":
    run_stage(main)
