"""Tokens that reach over the edge of an entity: found in the training part, and taken out of the vocabulary."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tokenizers import Tokenizer

from koner.corpus import BATCH, Sentence
from koner.encoding import encode
from koner.labels import OUTSIDE

_ROUNDS = 10
_LONG = 1 << 20  # tokens: no sentence is cut
# A piece that no text can hold, since pieces are words or parts of them, takes the place of one that is taken out:
# all others keep their ids, and with them their embeddings.
_GONE = " {}"


def crosses(tags: Sequence[str]) -> bool:
    """Tells whether an entity begins or ends inside a token, given the tags of its characters."""
    return any((a == OUTSIDE) != (b == OUTSIDE) or b[0] == "B" for a, b in itertools.pairwise(tags))


def crossing_pieces(tokenizer: Tokenizer, sentences: Iterable[Sentence]) -> set[str]:
    """The pieces of the vocabulary that cross an entity's edge anywhere in the sentences, without special tokens."""
    pieces = {id_: piece for piece, id_ in tokenizer.get_vocab().items()}
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    special.add(json.loads(tokenizer.to_str())["model"].get("unk_token"))
    found = {
        pieces[e.windows[w].input_ids[p]]
        for batch in _batched(sentences)
        for sentence, e in zip(batch, encode([s.text for s in batch], tokenizer, _LONG, 0), strict=True)
        for (w, p), (start, end) in zip(e.tokens, e.offsets, strict=True)
        if crosses(sentence.tags[start:end])
    }
    return found - special


def _batched(sentences: Iterable[Sentence]) -> Iterator[list[Sentence]]:
    left = iter(sentences)
    while batch := list(islice(left, BATCH)):
        yield batch


def without_crossing(tokenizer: Tokenizer, sentences: Iterable[Sentence]) -> tuple[Tokenizer, list[str]]:
    """A WordPiece tokenizer without the pieces that cross an entity's edge in the sentences, and these pieces.

    What was one token becomes several shorter ones, which may cross in their turn: repeated until none does. Few
    pieces do most of it (`##성이`, `북미`), so that it holds for other texts too. Tokenizers of other kinds come back
    as they are: what they fall back to, where a piece is gone, is not known to be finer.
    """
    gone: list[str] = []
    for _ in range(_ROUNDS):
        state = json.loads(tokenizer.to_str())
        if state["model"]["type"] != "WordPiece":
            break
        vocabulary = state["model"]["vocab"]
        # A single character can't be cut.
        found = {p for p in crossing_pieces(tokenizer, sentences) if len(p.removeprefix("##")) > 1}
        if not found:
            break
        for piece in sorted(found):
            vocabulary[_GONE.format(piece)] = vocabulary.pop(piece)
        gone += sorted(found)
        tokenizer = Tokenizer.from_str(json.dumps(state))
    return tokenizer, gone
