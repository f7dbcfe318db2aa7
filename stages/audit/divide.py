"""Divide the training part into folds."""

from pathlib import Path

from koner.audit.folds import assign_folds, write_folds
from koner.audit.params import load_audit_params
from koner.corpus.label_files import read_labels
from koner.corpus.sentences import StoredSentences
from koner.params import PARAMS_FILE, load_params
from koner.versions import version_metrics
from stages import run_stage

PIPELINE = Path("../..")
LABELS, TRAINING = PIPELINE / "data/corpus/labels.json", PIPELINE / "data/retagged/train.parquet"
VERSIONS = Path("../versions.yaml")
FOLDS = Path("data/folds.parquet")


def main() -> None:
    version_metrics("divide", VERSIONS)
    params, pipeline_params = load_audit_params(), load_params(PIPELINE / PARAMS_FILE)
    sentences = list(StoredSentences(TRAINING))
    folds = assign_folds(sentences, read_labels(LABELS), params.folds, pipeline_params.seed)
    write_folds(FOLDS, sentences, folds)


if __name__ == "__main__":
    run_stage(main)
