"""Read the raw text, and write a tokenizer and packs of tokens with their words and morphemes."""

import logging
from pathlib import Path

from koner.params import SCRATCH
from koner.pretraining.models import load_base_model
from koner.pretraining.params import load_pretrain_params
from koner.pretraining.prepare import HELD_OUT, TRAIN, prepare_packs
from koner.pretraining.teacher import Teacher
from koner.storage.outputs import atomic_directory
from koner.versions import version_metrics
from stages import run_stage

PACKS = Path("data/packs")
TEACHER = Path("teacher")

_logger = logging.getLogger("stages.pretrain.pack")


def main() -> None:
    version_metrics("pack", Path("../versions.yaml"))
    params = load_pretrain_params()
    tokenizer = None if params.base_model == SCRATCH else load_base_model(params)[1]
    teacher = Teacher(TEACHER).tag_ids if params.weak_weight and params.weak_teacher else None
    with atomic_directory(PACKS) as folder:
        summary = prepare_packs(params, tokenizer, folder, teacher)
    _logger.info(
        "pack: %d texts, %d tokens; %d packs of %d to train on, %d held out",
        sum(summary.texts),
        summary.tokens,
        summary.packs[TRAIN],
        params.length,
        summary.packs[HELD_OUT],
    )


if __name__ == "__main__":
    run_stage(main)
