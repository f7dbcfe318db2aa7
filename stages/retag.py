"""Aligns the character tags to the base model's tokens, and counts what that costs."""

from pathlib import Path

from tqdm import tqdm
from transformers import AutoTokenizer

from koner.alignment import RETAGGED_SCHEMA, retag_rows, retagged_to_row
from koner.ceiling import Ceiling, Loss, write_losses
from koner.corpus import read_rows, write_rows
from koner.errors import told_plainly
from koner.outputs import whole_folder, write_metrics
from koner.params import load_params

CORPUS, BASE = Path("data/corpus"), Path("models/base")
RETAGGED, LOST, METRICS = Path("data/retagged"), Path("data/lost"), Path("metrics/retag.json")


def main() -> None:
    params = load_params()
    tokenizer = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
    losses: list[Loss] = []
    metrics = {}
    with whole_folder(RETAGGED) as folder:
        for part in ("train", "validation"):
            ceiling = Ceiling(part)

            def rows(part=part, ceiling=ceiling):
                corpus = read_rows(CORPUS / f"{part}.parquet")
                retagged = retag_rows(corpus, tokenizer, params.max_length, params.stride, params.boundaries)
                for sentence in tqdm(retagged, f"retag {part}", unit=" sentences", mininterval=1):
                    losses.extend(ceiling.add(sentence, tokenizer.unk_token_id))
                    yield retagged_to_row(sentence)

            write_rows(folder / f"{part}.parquet", rows(), RETAGGED_SCHEMA)
            metrics[part] = ceiling.metrics()
    write_losses(losses, LOST / "lost.csv", LOST / "lost.md")
    write_metrics(METRICS, metrics)


if __name__ == "__main__":
    with told_plainly():
        main()
