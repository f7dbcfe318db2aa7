"""One training run of `benchmarks.training`, in a process of its own.

    python -m benchmarks.training_run --way usual --folder FOLDER --seed 0

The folder holds the parameters of both ways, the base model and the aligned sentences. Prints the figures as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.metering import Meter
from benchmarks.processes import peak_memory
from benchmarks.reporting import make_parser
from koner.corpus.parts import DEVELOPMENT, TEST, TRAIN
from koner.errors import exit_on_error
from koner.evaluation.span import span_counts
from koner.hardware import usable_cores
from koner.inference.predictions import predict
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from koner.params import Params
from koner.tokens.alignment import read_aligned
from koner.training.dataset import WindowDataset
from koner.training.fit import train
from koner.training.metrics import argmax_labels, token_scores
from koner.training.model import build_model
from koner.training.precision import uses_bf16

USUAL, KONER = "usual", "koner"
WAYS = (USUAL, KONER)
USUAL_BATCH_SIZE = 8
# The names of the files and folders that a run reads.
BASE, PARAMS_NAME, PART_NAME = "base", "{way}.json", "{part}.parquet"


def run(way: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train in one way and return the figures; with test sentences, also the span counts on them."""
    params = Params.model_validate_json((folder / PARAMS_NAME.format(way=way)).read_bytes())
    params = params.model_copy(update={"seed": seed})
    training, development = (WindowDataset.read(folder / PART_NAME.format(part=part)) for part in (TRAIN, DEVELOPMENT))
    test = list(read_aligned(folder / PART_NAME.format(part=TEST)))
    meter = Meter()
    with TemporaryDirectory(dir=folder) as temporary:
        trained, checkpoints = Path(temporary) / "trained", Path(temporary) / "checkpoints"
        if way == USUAL:
            train_usual(params, folder / BASE, training, development, trained, checkpoints, [meter])
        else:
            train(params, folder / BASE, KLUE, training, development, trained, checkpoints, "run", [meter])
        figures: dict[str, Any] = {
            **meter.figures(),
            "memory": peak_memory(),
            "bf16": way == KONER and uses_bf16(params.precision),
        }
        if torch.cuda.is_available():
            figures |= {"gpu_memory": torch.cuda.max_memory_reserved(), "gpu": torch.cuda.get_device_name()}
        if test:
            tagger = Tagger.load(trained, "cpu", usable_cores())
            figures["counts"] = span_counts(predict(tagger, test), KLUE).tolist()
        else:
            figures["parameters"] = count_matrix_parameters(trained)
    return figures


def train_usual(
    params: Params,
    base: Path,
    training: WindowDataset,
    development: WindowDataset,
    folder: Path,
    checkpoints: Path,
    callbacks: Sequence[TrainerCallback],
) -> None:
    """Train in the usual way: a Trainer with the arguments of the published recipe and defaults otherwise."""
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    torch.manual_seed(params.seed)
    trainer = Trainer(
        model=build_model(base, params.dropout, KLUE),
        args=TrainingArguments(
            output_dir=str(checkpoints),
            per_device_train_batch_size=USUAL_BATCH_SIZE,
            num_train_epochs=params.epochs,
            learning_rate=params.lr,
            weight_decay=params.weight_decay,
            seed=params.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="f1",
            report_to="none",
        ),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=training,
        eval_dataset=development,
        compute_metrics=token_scores,
        preprocess_logits_for_metrics=argmax_labels,
        callbacks=list(callbacks),
    )
    trainer.train()
    trainer.save_model(str(folder))
    tokenizer.model_max_length = params.max_length
    tokenizer.save_pretrained(folder)


def count_matrix_parameters(model: Path) -> int:
    """Return the number of parameters without embeddings, which are looked up and not multiplied."""
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", "pt") as weights:
        names = [name for name in weights.keys() if "embeddings" not in name]  # noqa: SIM118
        return int(sum(np.prod(weights.get_slice(name).get_shape()) for name in names))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--way", choices=WAYS, required=True, help="the way to train")
    parser.add_argument("--folder", type=Path, required=True, help="folder that `benchmarks.training` prepared")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the weights and of the order (default: %(default)s)"
    )
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.way, arguments.folder, arguments.seed)))


if __name__ == "__main__":
    with exit_on_error():
        main()
