"""Aligns the character tags to the base model's tokens, and counts what that costs."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm
from transformers import AutoTokenizer

from koner.alignment import RETAGGED_SCHEMA, backend_of
from koner.ceiling import Ceiling, Loss, write_losses
from koner.encoding import windowed
from koner.errors import told_plainly
from koner.outputs import whole_folder, write_metrics
from koner.params import load_params
from koner.parquet import read_batches, write_batches
from koner.retagging import retag_batch

CORPUS, BASE = Path("data/corpus"), Path("models/base")
RETAGGED, LOST, METRICS = Path("data/retagged"), Path("data/lost"), Path("metrics/retag.json")


def main() -> None:
    params = load_params()
    tokenizer = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
    backend = windowed(backend_of(tokenizer), params.max_length, params.stride)
    losses: list[Loss] = []
    metrics = {}
    with whole_folder(RETAGGED) as folder:
        for part in ("train", "validation"):
            ceiling = Ceiling(part)

            def batches(part: str = part, ceiling: Ceiling = ceiling) -> Iterator[pa.RecordBatch]:
                with tqdm(desc=f"retag {part}", unit=" sentences", mininterval=1) as progress:
                    for batch in read_batches(CORPUS / f"{part}.parquet"):
                        retagged = retag_batch(batch, backend, params.boundaries)
                        losses.extend(ceiling.add_batch(retagged, tokenizer.unk_token_id))
                        progress.update(batch.num_rows)
                        yield retagged.rows

            write_batches(folder / f"{part}.parquet", batches(), RETAGGED_SCHEMA)
            metrics[part] = ceiling.metrics()
    write_losses(losses, LOST / "lost.csv", LOST / "lost.md")
    write_metrics(METRICS, metrics)


if __name__ == "__main__":
    with told_plainly():
        main()
