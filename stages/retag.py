"""Align the character tags of the corpus to the base model's tokens, and compute the oracle score."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from koner.corpus.label_files import LABELS_FILE, read_labels
from koner.corpus.parts import stored_parts
from koner.labels.label_set import LabelSet
from koner.params import load_params
from koner.storage.outputs import atomic_directory, write_metrics
from koner.storage.parquet import read_batches, write_batches
from koner.tokens.alignment import ALIGNED_SCHEMA, align_batch
from koner.tokens.oracle import LostEntity, OracleScore, write_lost_entities
from koner.tokens.text_tokenizer import TextTokenizer
from koner.tokens.windows import with_truncation
from koner.versions import version_metrics
from stages import run_stage

CORPUS, BASE = Path("data/corpus"), Path("models/base")
RETAGGED, LOST, METRICS = Path("data/retagged"), Path("data/lost"), Path("metrics/retag.json")


def main() -> None:
    params = load_params()
    labels = read_labels(CORPUS / LABELS_FILE)
    # Imported on use: it takes seconds, and a mistake in the parameters is reported before.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
    windowing = with_truncation(tokenizer, params.max_length, params.stride)
    lost_entities: list[LostEntity] = []
    metrics = {}
    with atomic_directory(RETAGGED) as folder:
        for part in stored_parts(CORPUS):
            score = OracleScore(part)
            batches = align_part(part, windowing, labels, tokenizer.unk_token_id, score, lost_entities)
            write_batches(folder / f"{part}.parquet", batches, ALIGNED_SCHEMA)
            metrics[part] = score.metrics()
    write_lost_entities(lost_entities, LOST / "lost.csv", LOST / "lost.md")
    write_metrics(METRICS, {**metrics, **version_metrics("retag")})


def align_part(
    part: str,
    tokenizer: TextTokenizer,
    labels: LabelSet,
    unk_id: int | None,
    score: OracleScore,
    lost_entities: list[LostEntity],
) -> Iterator[pa.RecordBatch]:
    """Yield the aligned batches of a part, and add each to `score` and its lost entities to `lost_entities`."""
    with tqdm(desc=f"retag {part}", unit=" sentences", mininterval=1) as progress:
        for batch in read_batches(CORPUS / f"{part}.parquet"):
            aligned = align_batch(batch, tokenizer, labels)
            lost_entities.extend(score.add(aligned, unk_id))
            progress.update(batch.num_rows)
            yield aligned.rows


if __name__ == "__main__":
    run_stage(main)
