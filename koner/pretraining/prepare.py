"""Preparation of raw text: a tokenizer, and packs of tokens.

All intermediate results are on disk: memory grows by a few numbers for each text, and never holds the texts.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from koner.encoder.vocabulary import make_tokenizer, morpheme_pieces, normalize, vocabulary_from_counts
from koner.errors import KonerError
from koner.pretraining.document_store import StoredDocuments, write_documents
from koner.pretraining.packing import Document, make_document, pack_documents, write_packs
from koner.pretraining.params import PretrainParams
from koner.pretraining.raw_text import read_texts
from koner.pretraining.weak_labels import agreed_tag_ids, weak_tag_ids
from koner.text.morphemes import AnalysedText, analyse
from koner.tokens.text_tokenizer import TextTokenizer

TRAIN, HELD_OUT, TOKENIZER = "train", "held", "tokenizer"
# Distinct pieces whose occurrences are counted, about 100 bytes each; beyond this number the rarer half is dropped.
MAX_PIECES = 10_000_000
# Texts in memory at a time.
CHUNK = 500
# A piece that occurs once is more often a misspelling than a morpheme.
_MIN_COUNT = 2
# A function that returns the ids of the BIO tags of each text's characters.
TagTexts = Callable[[Sequence[str]], Sequence[np.ndarray]]
_Labeller = Callable[[Sequence[AnalysedText]], Sequence[np.ndarray | None]]
_ANALYSED_SCHEMA = pa.schema({"text": pa.string(), "morphemes": pa.list_(pa.list_(pa.int32(), 3))})


@dataclass(frozen=True)
class PackingSummary:
    """The amount of data in packs.

    Attributes:
        texts: The number of texts of each source.
        tokens: The number of tokens of all texts.
        packs: The number of packs of each part.
    """

    texts: list[int]
    tokens: int
    packs: dict[str, int]


def prepare_packs(
    params: PretrainParams, tokenizer: PreTrainedTokenizerBase | None, folder: Path, teacher: TagTexts | None = None
) -> PackingSummary:
    """Write packs of the texts that the parameters name to `train` and `held` in a folder, and the tokenizer.

    One text of `held_out` goes to `held`, the others to `train`, each as often as its source is repeated, in an order
    that the seed draws.

    Args:
        params: The parameters of pretraining.
        tokenizer: The tokenizer of the base model. Without one, the texts are normalized, and a tokenizer is built
            from them.
        folder: The folder to write to.
        teacher: A second labeller. It decides where the rules are in doubt; where it contradicts them, there is no
            label.

    Raises:
        KonerError: If a source can't be read, or a part has fewer tokens than a pack.
    """
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    counts, pieces = _write_analysed_texts(params, tokenizer is None, scratch / "analysed.arrow")
    if tokenizer is None:
        vocabulary = vocabulary_from_counts(pieces, _MIN_COUNT, params.vocab_min_characters, params.vocab_size)
        tokenizer = make_tokenizer(vocabulary, params.length)
    tokenizer.save_pretrained(folder / TOKENIZER)
    documents = _read_documents(scratch / "analysed.arrow", tokenizer, _make_labeller(params, teacher))
    write_documents(tqdm(documents, "tokens", sum(counts), unit=" texts", mininterval=1), scratch)
    stored = StoredDocuments(scratch)
    packs = _write_parts(params, stored, np.repeat(params.repeats, counts), folder)
    tokens = int(stored.ends[-1])
    # Release the memory-mapped files before they are removed.
    del stored
    shutil.rmtree(scratch)
    return PackingSummary(counts, tokens, packs)


def _write_analysed_texts(params: PretrainParams, build_tokenizer: bool, path: Path) -> tuple[list[int], Counter[str]]:
    """Write all texts with their morphemes to an Arrow file.

    Returns:
        The number of texts of each source, and, if a tokenizer is to be built, the count of each piece: each text
        counts as often as its source is repeated.
    """
    counts = []
    pieces: Counter[str] = Counter()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _ANALYSED_SCHEMA) as writer:
        for source, repeats in zip(params.texts, params.repeats, strict=True):
            count = 0
            texts = iter(tqdm(_analyse_source(params, source, build_tokenizer), source, unit=" texts", mininterval=1))
            while chunk := list(islice(texts, CHUNK)):
                columns = [[text.text for text in chunk], [text.morphemes for text in chunk]]
                writer.write_batch(pa.record_batch(columns, schema=_ANALYSED_SCHEMA))
                if build_tokenizer:
                    pieces = _add_piece_counts(pieces, chunk, repeats)
                count += len(chunk)
            if not count:
                raise KonerError(f"texts: {source} contains no text")
            counts.append(count)
    return counts, pieces


def _analyse_source(params: PretrainParams, source: str, build_tokenizer: bool) -> Iterator[AnalysedText]:
    """Yield the texts of a source, with their morphemes if the tokenizer, the tags or the weak labels need them."""
    texts = read_texts(source, params.column, params.texts_revision)
    if build_tokenizer:
        texts = filter(None, map(normalize, texts))
    is_needed = build_tokenizer or params.tag_weight or params.weak_weight
    return analyse(texts) if is_needed else (AnalysedText(text, ()) for text in texts)


def _add_piece_counts(pieces: Counter[str], chunk: Sequence[AnalysedText], repeats: int) -> Counter[str]:
    """Return the counts with the pieces of some texts added; of too many, only the more frequent half is kept."""
    for piece, count in Counter(chain.from_iterable(map(morpheme_pieces, chunk))).items():
        pieces[piece] += count * repeats
    return Counter(dict(pieces.most_common(MAX_PIECES // 2))) if len(pieces) > MAX_PIECES else pieces


def _read_documents(path: Path, tokenizer: PreTrainedTokenizerBase, label: _Labeller) -> Iterator[Document]:
    """Yield the texts that `_write_analysed_texts` wrote as documents of tokens, whatever their length."""
    whole = TextTokenizer(tokenizer, None)
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            texts, morphemes = batch.column("text").to_pylist(), batch.column("morphemes").to_pylist()
            analysed = [
                AnalysedText(text, tuple(map(tuple, rows))) for text, rows in zip(texts, morphemes, strict=True)
            ]
            for text, encoding, tags in zip(analysed, whole.encode_batch(texts), label(analysed), strict=True):
                yield make_document(text, encoding.ids, encoding.offsets, tags)


def _make_labeller(params: PretrainParams, teacher: TagTexts | None) -> _Labeller:
    """Return the function that labels texts: not at all, by rules, or by rules and a teacher."""

    def label(texts: Sequence[AnalysedText]) -> Sequence[np.ndarray | None]:
        if not params.weak_weight:
            return [None] * len(texts)
        by_rules = [weak_tag_ids(text) for text in texts]
        if teacher is None:
            return by_rules
        return list(map(agreed_tag_ids, by_rules, teacher([text.text for text in texts])))

    return label


def _write_parts(
    params: PretrainParams, documents: StoredDocuments, repeats: np.ndarray, folder: Path
) -> dict[str, int]:
    """Write the packs of both parts.

    Args:
        params: The parameters of pretraining.
        documents: The documents of all sources.
        repeats: How often each document is repeated in the training part (documents,).
        folder: The folder to write to.

    Returns:
        The number of packs of each part.
    """
    numbers = np.arange(len(documents))
    training = numbers[numbers % params.held_out != 0]
    training = np.repeat(training, repeats[training])
    np.random.default_rng(params.seed).shuffle(training)
    packs = {}
    for part, indices in ((HELD_OUT, numbers[:: params.held_out]), (TRAIN, training)):
        (folder / part).mkdir()
        part_documents = (documents[i] for i in tqdm(indices, f"packs: {part}", unit=" texts", mininterval=1))
        packs[part] = write_packs(pack_documents(part_documents, params.length), folder / part)
        if not packs[part]:
            raise KonerError(
                f"texts: the {len(indices)} texts of the part '{part}' don't fill one pack of {params.length} tokens; "
                "give more text, or set length or held_out lower"
            )
    return packs
