"""The test part of a corpus that has training sentences only, drawn from these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from koner.corpus.parts import TEST, TRAIN
from koner.corpus.sentences import Sentence, from_row
from koner.corpus.splitting import MIN_SENTENCES, Selection, count_drawable, draw_stratified, summarize
from koner.errors import KonerError
from koner.labels.label_set import LabelSet
from koner.storage.parquet import read_batches


def carve_test(path: Path, labels: LabelSet, share: float, seed: int) -> dict[str, Iterator[Sentence]]:
    """Divide stored sentences into a training and a test part, stratified over all types at once.

    Sentences of one text stay together, in the part of the first of them.

    Args:
        path: A Parquet file of `SENTENCE_SCHEMA`.
        labels: The labels of the sentences.
        share: The share of the sentences that become the test part.
        seed: The seed of the draw.

    Returns:
        The sentences of each part, as streams.

    Raises:
        KonerError: If there are too few sentences.
    """
    summary = summarize(read_batches(path, ["text", "entities"]), labels)
    first, inverse = _number_texts(summary.text_hashes)
    type_counts = summary.type_counts[first]
    if (drawable := count_drawable(type_counts)) < MIN_SENTENCES:
        fewer = "" if len(first) < MIN_SENTENCES else f", {drawable} of them without a type that only they have"
        raise KonerError(
            f"test_share: the source has one part of {len(first)} different sentences{fewer}; at least {MIN_SENTENCES} "
            "are needed to draw a test part from, or a file named test"
        )
    drawn = np.zeros(len(first), bool)
    drawn[draw_stratified(type_counts, share, seed)] = True
    in_test = drawn[inverse]

    def read(mask: np.ndarray) -> Iterator[Sentence]:
        for batch in Selection(TRAIN, mask).filter(read_batches(path)):
            yield from _to_sentences(batch)

    return {TRAIN: read(~in_test), TEST: read(in_test)}


def _number_texts(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the texts in the order in which they first occur: Python's hashes differ from process to process.

    Returns:
        The index of the first sentence of each text (texts,), and the number of each sentence's text (sentences,).
    """
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    numbers = np.empty_like(order)
    numbers[order] = np.arange(len(order))
    return first[order], numbers[inverse]


def _to_sentences(batch: pa.RecordBatch) -> Iterator[Sentence]:
    return map(from_row, batch.to_pylist())
