"""Fine-tunes the base model on the training part; keeps the epoch that does best on the development part."""

from contextlib import nullcontext
from pathlib import Path

from koner.devices import leased_gpus
from koner.distributed import joined, launch, launched, rank
from koner.errors import told_plainly
from koner.outputs import write_metrics
from koner.params import Params, load_params
from koner.plots import plot_epochs, write_table
from koner.training import fingerprint, train, uses_bf16
from koner.windows import read_parts

BASE, SPLIT = Path("models/base"), Path("data/split")
MODEL, CHECKPOINTS = Path("models/trained"), Path("models/checkpoints")
METRICS, PLOTS = Path("metrics/train.json"), Path("plots/train")


def main() -> None:
    params = load_params()
    together = params.processes * params.machines
    if together > 1 and not launched():
        with leased_gpus("train", params.processes):
            launch("stages.train", params.processes, params.machines)
        return
    # Processes that train together were left theirs before they were started.
    with joined(together), leased_gpus("train") if together == 1 else nullcontext():
        run(params)


def run(params: Params) -> None:
    training, development, sentences = read_parts(params, BASE, SPLIT)
    trained = train(params, BASE, training, development, MODEL, CHECKPOINTS, fingerprint(params, [BASE, SPLIT]))
    if rank():
        return
    write_table(PLOTS / "epochs.csv", trained.history)
    plot_epochs(trained.history, trained.best["epoch"], PLOTS / "epochs.png")
    best = {key: value for key, value in trained.best.items() if key != "epoch"}
    write_metrics(
        METRICS,
        {
            "best_epoch": trained.best["epoch"],
            "epochs": len(trained.history),
            "best": best,
            "sentences": sentences,
            "lr": params.lr,
            "bf16": uses_bf16(params.precision),
            "runtime_seconds": trained.seconds,
            "samples_per_second": trained.samples_per_second,
        },
    )


if __name__ == "__main__":
    with told_plainly():
        main()
