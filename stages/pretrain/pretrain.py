"""Trains a masked language model on the packs: what `base_model` in params.yaml may then name."""

from pathlib import Path

from koner.errors import told_plainly
from koner.loss_curves import LossCurves
from koner.outputs import write_metrics
from koner.pretrain_params import load_pretrain_params
from koner.pretraining import pretrain

PACKS, MODEL, CHECKPOINTS = Path("data/packs"), Path("model"), Path("checkpoints")
METRICS, CURVES = Path("metrics.json"), Path("dvclive")


def main() -> None:
    params = load_pretrain_params()
    write_metrics(METRICS, pretrain(params, PACKS, MODEL, CHECKPOINTS, [LossCurves(CURVES)]))


if __name__ == "__main__":
    with told_plainly():
        main()
