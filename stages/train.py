"""Fine-tunes the base model on the training part; keeps the epoch that does best on the development part."""

from contextlib import nullcontext
from pathlib import Path

from transformers import AutoTokenizer

from koner.alignment import Retagged, read_retagged, retag
from koner.augmentation import NAMES, augmented, read_names
from koner.devices import leased_gpu
from koner.distributed import joined, launch, launched, rank
from koner.errors import told_plainly
from koner.outputs import write_metrics
from koner.params import Params, load_params
from koner.plots import plot_epochs, write_table
from koner.training import fingerprint, train, uses_bf16

BASE, SPLIT = Path("models/base"), Path("data/split")
MODEL, CHECKPOINTS = Path("models/trained"), Path("models/checkpoints")
METRICS, PLOTS = Path("metrics/train.json"), Path("plots/train")


def main() -> None:
    params = load_params()
    together = params.processes * params.machines
    if together > 1 and not launched():
        launch("stages.train", params.processes, params.machines)
        return
    # Processes that train together have a GPU each already.
    with joined(together), leased_gpu("train") if together == 1 else nullcontext():
        run(params)


def run(params: Params) -> None:
    training, development, written = read_parts(params)
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
            "sentences": {"written": written, "substituted": len(training) - written},
            "lr": params.lr,
            "bf16": uses_bf16(params.precision),
            "runtime_seconds": trained.seconds,
            "samples_per_second": trained.samples_per_second,
        },
    )


def read_parts(params: Params) -> tuple[list[Retagged], list[Retagged], int]:
    """The training part with what `augment` adds, the development part, and how many of the former were written."""
    training, development = (list(read_retagged(SPLIT / f"{part}.parquet")) for part in ("train", "development"))
    written = len(training)
    if params.augment:
        sentences = [r.sentence for r in training]
        names = read_names(NAMES, sentences)
        tokenizer = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
        extra = augmented(sentences, names, params.augment, params.seed)
        training += retag(extra, tokenizer, params.max_length, params.stride, params.boundaries)
    return training, development, written


if __name__ == "__main__":
    with told_plainly():
        main()
