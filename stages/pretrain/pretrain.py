"""Pretrain a masked language model on the packs; `base_model` in params.yaml may then name its folder."""

from pathlib import Path

from koner.pretraining.loss_curves import LossCurves
from koner.pretraining.params import load_pretrain_params
from koner.pretraining.train import pretrain
from koner.storage.outputs import write_metrics
from koner.versions import version_metrics
from stages import run_stage

PACKS, MODEL, CHECKPOINTS = Path("data/packs"), Path("model"), Path("checkpoints")
VERSIONS = Path("../versions.yaml")
METRICS, CURVES = Path("metrics.json"), Path("dvclive")


def main() -> None:
    params = load_pretrain_params()
    metrics = pretrain(params, PACKS, MODEL, CHECKPOINTS, [LossCurves(CURVES)])
    write_metrics(METRICS, {**metrics, **version_metrics("pretrain", VERSIONS)})


if __name__ == "__main__":
    run_stage(main)
