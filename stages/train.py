"""Fine-tunes the base model on the training part; keeps the epoch that does best on the development part."""

from pathlib import Path

from transformers import AutoTokenizer

from koner.alignment import read_retagged, retag
from koner.augmentation import NAMES, augmented, read_names
from koner.errors import told_plainly
from koner.outputs import write_metrics
from koner.params import load_params
from koner.plots import plot_epochs, write_table
from koner.training import fingerprint, train, uses_bf16

BASE, SPLIT = Path("models/base"), Path("data/split")
MODEL, CHECKPOINTS = Path("models/trained"), Path("models/checkpoints")
METRICS, PLOTS = Path("metrics/train.json"), Path("plots/train")


def main() -> None:
    params = load_params()
    training, development = (list(read_retagged(SPLIT / f"{part}.parquet")) for part in ("train", "development"))
    written = len(training)
    if params.augment:
        sentences = [r.sentence for r in training]
        names = read_names(NAMES, sentences)
        tokenizer = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
        extra = augmented(sentences, names, params.augment, params.seed)
        training += retag(extra, tokenizer, params.max_length, params.stride, params.boundaries)
    run_id = fingerprint(params, [BASE, SPLIT])
    trained = train(params, BASE, training, development, MODEL, CHECKPOINTS, run_id)
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


if __name__ == "__main__":
    with told_plainly():
        main()
