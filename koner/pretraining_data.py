"""Raw text to packs of tokens by way of the disk: memory holds a few numbers a text, never the texts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from koner.document_store import StoredDocuments, write_documents
from koner.errors import KonerError
from koner.morphemes import Analysed, analyse
from koner.packing import Document, document, pack, write_packs
from koner.pretrain_params import PretrainParams
from koner.raw_text import read_texts
from koner.vocabulary import make_tokenizer, morpheme_pieces, normalise, vocabulary_of

TRAIN, HELD, TOKENIZER = "train", "held", "tokenizer"
# Distinct pieces that are counted, of about 100 bytes each; beyond them the rarer half is forgotten.
MOST_PIECES = 10_000_000
# Texts that are in memory at once.
_CHUNK = 500
# What occurs once is a misspelling more often than a morpheme.
_MIN_COUNT = 2
_ANALYSED = pa.schema({"text": pa.string(), "morphemes": pa.list_(pa.list_(pa.int32(), 3))})


@dataclass(frozen=True)
class Packed:
    """How much was packed: texts of each source, their tokens, and packs of each part."""

    texts: list[int]
    tokens: int
    packs: dict[str, int]


def prepare_packs(params: PretrainParams, tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> Packed:
    """Writes packs of the texts that the parameters name to `train` and `held` in `folder`, the tokenizer beside them.

    Without a `tokenizer` one is made of the texts, which are then normalised. One text of `held_out` goes to `held`,
    the others to `train`: each as often as its source is repeated, in an order that the seed draws. Raises
    `KonerError` where a text can't be read, or a part fills no pack.
    """
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    counts, pieces = _write_analysed(params, tokenizer is None, scratch / "analysed.arrow")
    if tokenizer is None:
        vocabulary = vocabulary_of(pieces, _MIN_COUNT, params.vocab_min_characters, params.vocab_size)
        tokenizer = make_tokenizer(vocabulary, params.length)
    tokenizer.save_pretrained(folder / TOKENIZER)
    documents = _documents(scratch / "analysed.arrow", tokenizer)
    write_documents(tqdm(documents, "tokens", sum(counts), unit=" texts", mininterval=1), scratch)
    stored = StoredDocuments(scratch)
    packs = _write_parts(params, stored, np.repeat(params.repeats, counts), folder)
    tokens = int(stored.ends[-1])
    del stored
    shutil.rmtree(scratch)
    return Packed(counts, tokens, packs)


def _write_analysed(params: PretrainParams, own_tokenizer: bool, path: Path) -> tuple[list[int], Counter[str]]:
    """Writes every text with its morphemes; gives the number of texts by source, and the pieces, repeats counted."""
    counts = []
    pieces: Counter[str] = Counter()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _ANALYSED) as writer:
        for source, repeats in zip(params.texts, params.repeats, strict=True):
            texts = read_texts(source, params.column, params.texts_revision)
            if own_tokenizer:
                texts = filter(None, map(normalise, texts))
            tagged = own_tokenizer or params.tag_weight
            analysed = analyse(texts) if tagged else (Analysed(text, ()) for text in texts)
            progress = iter(tqdm(analysed, source, unit=" texts", mininterval=1))
            count = 0
            while chunk := list(islice(progress, _CHUNK)):
                writer.write_batch(
                    pa.record_batch([[a.text for a in chunk], [a.morphemes for a in chunk]], schema=_ANALYSED)
                )
                if own_tokenizer:
                    pieces = _counted(pieces, chunk, repeats)
                count += len(chunk)
            if not count:
                raise KonerError(f"texts: {source} holds no text")
            counts.append(count)
    return counts, pieces


def _counted(pieces: Counter[str], chunk: Sequence[Analysed], repeats: int) -> Counter[str]:
    for piece, count in Counter(chain.from_iterable(map(morpheme_pieces, chunk))).items():
        pieces[piece] += count * repeats
    return Counter(dict(pieces.most_common(MOST_PIECES // 2))) if len(pieces) > MOST_PIECES else pieces


def _documents(path: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[Document]:
    """Reads what `_write_analysed` wrote, and encodes it without cutting any text short."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            texts, morphemes = batch.column("text").to_pylist(), batch.column("morphemes").to_pylist()
            encoded = tokenizer(texts, return_offsets_mapping=True)
            for text, found, ids, offsets in zip(
                texts, morphemes, encoded["input_ids"], encoded["offset_mapping"], strict=True
            ):
                yield document(Analysed(text, tuple(map(tuple, found))), ids, offsets)


def _write_parts(
    params: PretrainParams, documents: StoredDocuments, repeats: np.ndarray, folder: Path
) -> dict[str, int]:
    """Writes the packs of both parts and gives their numbers; `repeats` says how often each document is to be read."""
    numbers = np.arange(len(documents))
    training = numbers[numbers % params.held_out != 0]
    training = np.repeat(training, repeats[training])
    np.random.default_rng(params.seed).shuffle(training)
    packs = {}
    for part, chosen in ((HELD, numbers[:: params.held_out]), (TRAIN, training)):
        (folder / part).mkdir()
        read = (documents[i] for i in tqdm(chosen, f"packs: {part}", unit=" texts", mininterval=1))
        packs[part] = write_packs(pack(read, params.length), params.length, folder / part)
        if not packs[part]:
            raise KonerError(
                f"texts: the {len(chosen)} texts of the part '{part}' don't fill one pack of {params.length} tokens; "
                "give more text, or set length or held_out lower"
            )
    return packs
