"""Train a model on the sentences outside a fold, and store what it predicts for those in the fold.

    python -m stages.audit.fold NUMBER

The modules of training are imported on use, as in the stage `train`.
"""

import argparse
import logging
import shutil
from pathlib import Path

from koner.audit.folds import read_folds
from koner.corpus.label_files import read_labels
from koner.params import PARAMS_FILE, load_params
from koner.tokens.alignment import read_aligned
from koner.training.checkpoints import fingerprint
from koner.training.devices import lease_gpus
from koner.versions import version_metrics
from stages import run_stage

PIPELINE = Path("../..")
LABELS, TRAINING = PIPELINE / "data/corpus/labels.json", PIPELINE / "data/retagged/train.parquet"
BASE = PIPELINE / "models/base"
VERSIONS = Path("../versions.yaml")
FOLDS, CHECKPOINTS, PREDICTIONS = Path("data/folds.parquet"), Path("checkpoints"), Path("data/out_of_sample")

_logger = logging.getLogger("stages.audit.fold")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model without a fold, and tag the fold.")
    parser.add_argument("number", type=int, help="the fold")
    number = parser.parse_args().number
    version_metrics("fold", VERSIONS)
    params = load_params(PIPELINE / PARAMS_FILE)
    with lease_gpus("audit"):
        from koner.audit.cross_validation import train_without
        from koner.audit.out_of_sample import predict_out_of_sample, write_out_of_sample
        from koner.inference.tagger import Tagger

        labels = read_labels(LABELS)
        is_held_out = (read_folds(FOLDS) == number).tolist()
        sentences = list(zip(read_aligned(TRAINING), is_held_out, strict=True))
        others = [sentence for sentence, is_out in sentences if not is_out]
        held_out = [sentence for sentence, is_out in sentences if is_out]
        run_id = fingerprint(params, [LABELS, BASE, TRAINING, FOLDS])
        # A model that an interrupted run left is replaced.
        model = Path(f"fold-{number}")
        train_without(params, BASE, labels, others, model, CHECKPOINTS / str(number), run_id)
        predictions = predict_out_of_sample(Tagger.load(model), held_out, labels)
        count = write_out_of_sample(PREDICTIONS / f"{number}.parquet", predictions)
        shutil.rmtree(model)
    _logger.info("fold %d: trained on %d sentences, predicted %d", number, len(others), count)


if __name__ == "__main__":
    run_stage(main)
