"""The corpus' columns with the windows of its sentences: what `alignment.retag` gives, for many sentences at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Encoding, Tokenizer

from koner.alignment import RETAGGED_SCHEMA
from koner.boundaries import LABEL_TO_ID, token_label
from koner.encoding import readable
from koner.labels import IGNORED, OUTSIDE, TAG_TO_ID, TAGS

_SPACES = np.array([code for code in range(0x10000) if chr(code).isspace()], np.uint32)
_IS_INSIDE = np.array([tag[0] == "I" for tag in TAGS])
_TYPE = np.unique([tag[2:] for tag in TAGS], return_inverse=True)[1]


@dataclass(frozen=True)
class RetaggedBatch:
    """Sentences (n,) retagged as rows of `RETAGGED_SCHEMA`, and what their ceiling can be counted by.

    `clean` (n,): every entity begins where a token begins and ends where one ends, and no two tokens share a
    character, so that perfect predictions read back as just the entities. `windows` (n,) counts the sentences' windows;
    `token_ids` and `sentences` are of all tokens but the special ones: their ids and the rows that they are of.
    """

    rows: pa.RecordBatch
    clean: np.ndarray
    windows: np.ndarray
    token_ids: np.ndarray
    sentences: np.ndarray


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a batch's windows, special ones included; offsets count code points from the batch's begin."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    sentences: np.ndarray
    in_window: np.ndarray
    windows: np.ndarray


def retag_batch(batch: pa.RecordBatch, tokenizer: Tokenizer, boundaries: bool) -> RetaggedBatch:
    """Aligns the tags of sentences (at least one, rows of `SENTENCE_SCHEMA`) to tokens, as `alignment.retag` does.

    `tokenizer` is one that `encoding.windowed` made.
    """
    texts = [readable(text) for text in batch.column("text").to_pylist()]
    begins = np.cumsum([0, *map(len, texts)])
    tokens = _tokens(texts, begins, tokenizer.encode_batch(texts))
    # What a token holds but whitespace; special ones hold nothing.
    real = tokens.starts < tokens.ends
    tags = _places(batch.column("tags").flatten(), TAGS)
    labels = np.where(real, tags[np.minimum(tokens.starts, len(tags) - 1)], IGNORED)
    if boundaries:
        for i in np.flatnonzero(real & _ends_inside(tags, tokens)):
            held = tags[tokens.starts[i] : tokens.ends[i]]
            labels[i] = LABEL_TO_ID[token_label([TAGS[tag] for tag in held])]
    base = begins[tokens.sentences]
    columns = (tokens.ids, labels, tokens.starts - base, tokens.ends - base)
    rows = pa.RecordBatch.from_arrays([*batch.columns, _windows(columns, tokens)], schema=RETAGGED_SCHEMA)
    clean = _clean(batch.column("entities"), begins, tokens.starts[real], tokens.ends[real], tokens.sentences[real])
    return RetaggedBatch(rows, clean, tokens.windows, tokens.ids[real], tokens.sentences[real])


def _tokens(texts: Sequence[str], begins: np.ndarray, encodings: Sequence[Encoding]) -> _Tokens:
    spread = [(encoding, *encoding.overflowing) for encoding in encodings]
    windows = np.array([len(found) for found in spread])
    in_window = np.array([len(window) for found in spread for window in found])
    sentences = np.repeat(np.repeat(np.arange(len(texts)), windows), in_window)
    ids = np.fromiter(chain.from_iterable(w.ids for found in spread for w in found), np.int32, len(sentences))
    pairs = chain.from_iterable(w.offsets for found in spread for w in found)
    offsets = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * len(sentences)).reshape(-1, 2)
    starts, ends = (offsets + begins[sentences][:, None]).T
    blank = np.isin(np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32), _SPACES)
    # SentencePiece's tokens hold the space before a word.
    while (spaces := (starts < ends) & blank[np.minimum(starts, len(blank) - 1)]).any():
        starts = starts + spaces
    while (spaces := (starts < ends) & blank[ends - 1]).any():
        ends = ends - spaces
    return _Tokens(ids, starts, ends, sentences, in_window, windows)


def _ends_inside(tags: np.ndarray, tokens: _Tokens) -> np.ndarray:
    """Tells of each token whether its first character is of an entity that does not go on to its last one."""
    goes_on = _IS_INSIDE[tags]
    goes_on[1:] &= _TYPE[tags[1:]] == _TYPE[tags[:-1]]
    stops = np.where(goes_on, len(tags), np.arange(len(tags)))
    # Of each character, the next one that does not go on with its entity.
    stops = np.minimum.accumulate(np.append(stops, len(tags))[::-1])[::-1][1:]
    first = np.minimum(tokens.starts, len(tags) - 1)
    inside: np.ndarray = (tags[first] != TAG_TO_ID[OUTSIDE]) & (stops[first] < tokens.ends)
    return inside


def _clean(
    entities: pa.ListArray, begins: np.ndarray, starts: np.ndarray, ends: np.ndarray, sentences: np.ndarray
) -> np.ndarray:
    of = np.repeat(np.arange(len(entities)), np.asarray(entities.value_lengths()))
    spans = entities.flatten()
    token_starts, token_ends = np.zeros((2, begins[-1] + 1), bool)
    token_starts[starts], token_ends[ends] = True, True
    apart = token_starts[spans.field("start").to_numpy() + begins[of]]
    apart &= token_ends[spans.field("end").to_numpy() + begins[of]]
    clean = np.ones(len(entities), bool)
    clean[of[~apart]] = False
    clean[sentences[1:][starts[1:] < ends[:-1]]] = False
    return clean


def _windows(columns: Sequence[np.ndarray], tokens: _Tokens) -> pa.ListArray:
    type_ = RETAGGED_SCHEMA.field("windows").type
    token_bounds, window_bounds = (
        pa.array(np.cumsum([0, *lengths]), pa.int32()) for lengths in (tokens.in_window, tokens.windows)
    )
    lists = [pa.ListArray.from_arrays(token_bounds, pa.array(column, pa.int32())) for column in columns]
    windows = pa.StructArray.from_arrays(lists, fields=list(type_.value_type))
    return pa.ListArray.from_arrays(window_bounds, windows)


def _places(values: pa.StringArray, known: Sequence[str]) -> np.ndarray:
    places: np.ndarray = pc.index_in(values, value_set=pa.array(known)).to_numpy()
    return places
