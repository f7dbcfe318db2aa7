"""Fine-tune the base model on the training part, and keep the epoch with the best F1 on the development part.

The modules of training are imported on use: torch and transformers take seconds, in which the launcher of several
processes would import what only they need, and a mistake in the parameters would wait.
"""

from contextlib import nullcontext
from pathlib import Path

from koner.corpus.label_files import read_labels
from koner.params import Params, load_params
from koner.storage.outputs import write_metrics
from koner.storage.tables import write_table
from koner.storage.workspace import lock_workspace
from koner.training.checkpoints import fingerprint
from koner.training.devices import lease_gpus
from koner.versions import version_metrics
from stages import run_stage

LABELS, BASE, SPLIT = Path("data/corpus/labels.json"), Path("models/base"), Path("data/split")
MODEL, CHECKPOINTS = Path("models/trained"), Path("models/checkpoints")
METRICS, PLOTS = Path("metrics/train.json"), Path("plots/train")


def main() -> None:
    params = load_params()
    # The machines of one run train in one folder.
    with lock_workspace(shared=params.machines > 1):
        run_processes(params)


def run_processes(params: Params) -> None:
    from koner.training.launcher import is_launched, launch

    world_size = params.processes * params.machines
    if world_size > 1 and not is_launched():
        with lease_gpus("train", params.processes):
            launch("stages.train", params.processes, params.machines)
        return
    from koner.training.distributed import process_group

    # The launcher has leased the GPUs of the processes that it starts.
    with process_group(world_size), lease_gpus("train") if world_size == 1 else nullcontext():
        run(params)


def run(params: Params) -> None:
    from koner.training.dataset import read_parts
    from koner.training.distributed import rank
    from koner.training.fit import train
    from koner.training.precision import uses_bf16

    labels = read_labels(LABELS)
    training, development, sentences = read_parts(params, BASE, SPLIT, labels)
    run_id = fingerprint(params, [LABELS, BASE, SPLIT])
    trained = train(params, BASE, labels, training, development, MODEL, CHECKPOINTS, run_id)
    if rank():
        return
    write_table(PLOTS / "epochs.csv", trained.history)
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
            **version_metrics("train"),
        },
    )


if __name__ == "__main__":
    run_stage(main, locks=False)
