"""Tokens that reach over the edge of an entity: found in the training part, and taken out of the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from koner.corpus import Sentence
from koner.encoding import readable, windowed
from koner.parquet import BATCH

_ROUNDS = 10
_LONG = 1 << 20  # tokens: no word is cut
# A piece that no text can hold, since pieces are words or parts of them, takes the place of one that is taken out:
# all others keep their ids, and with them their embeddings.
_GONE = " {}"

Edged = tuple[str, tuple[int, ...]]


def noting_edged_words(sentences: Iterable[Sentence], found: set[Edged]) -> Iterator[Sentence]:
    """Passes sentences on, and adds to `found` their words inside which an entity begins or ends, with these edges.

    Words are what spaces part; an edge is the number of the word's characters before it. A word is kept once however
    often it comes, so that memory grows with the distinct words only.
    """
    for sentence in sentences:
        text = sentence.text
        words: dict[int, set[int]] = {}
        for edge in {edge for entity in sentence.entities for edge in (entity.start, entity.end)}:
            start = text.rfind(" ", 0, edge) + 1
            if start < edge < len(text) and text[edge] != " ":
                words.setdefault(start, set()).add(edge - start)
        for start, edges in words.items():
            end = text.find(" ", start)
            found.add((text[start : end if end > 0 else None], tuple(sorted(edges))))
        yield sentence


def edged_words(sentences: Iterable[Sentence]) -> set[Edged]:
    """The words of sentences that `noting_edged_words` finds."""
    found: set[Edged] = set()
    for _ in noting_edged_words(sentences, found):
        pass
    return found


def crossing_pieces(tokenizer: Tokenizer, words: Iterable[Edged]) -> dict[Edged, set[str]]:
    """The pieces of the vocabulary, special tokens left out, that cross an edge in each of the words that has such."""
    kept = json.loads(tokenizer.to_str())
    special = {token["content"] for token in kept["added_tokens"]} | {kept["model"].get("unk_token")}
    uncut = windowed(tokenizer, _LONG, 0)
    words = list(words)
    found: dict[Edged, set[str]] = {}
    for i in range(0, len(words), BATCH):
        batch = words[i : i + BATCH]
        for word, encoding in zip(batch, uncut.encode_batch([readable(text) for text, _ in batch]), strict=True):
            crossing = {
                piece
                for piece, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)
                if any(start < edge < end for edge in word[1])
            }
            if crossing - special:
                found[word] = crossing - special
    return found


def without_crossing(tokenizer: Tokenizer, words: Iterable[Edged]) -> tuple[Tokenizer, list[str]]:
    """A WordPiece tokenizer without the pieces that cross an entity's edge in the words, and these pieces.

    What was one token becomes several shorter ones, which may cross in their turn: repeated until none does. Few
    pieces do most of it (`##성이`, `북미`), so that it holds for other texts too. Tokenizers of other kinds come back
    as they are: what they fall back to, where a piece is gone, is not known to be finer.
    """
    gone: list[str] = []
    if not isinstance(tokenizer.model, WordPiece):
        return tokenizer, gone
    crossing = crossing_pieces(tokenizer, words)
    for _ in range(_ROUNDS):
        # A single character can't be cut.
        found = {p for pieces in crossing.values() for p in pieces if len(p.removeprefix("##")) > 1}
        if not found:
            break
        state = json.loads(tokenizer.to_str())
        vocabulary = state["model"]["vocab"]
        for piece in sorted(found):
            vocabulary[_GONE.format(piece)] = vocabulary.pop(piece)
        gone += sorted(found)
        tokenizer = Tokenizer.from_str(json.dumps(state))
        # All other words are made of the same pieces as before.
        crossing = crossing_pieces(tokenizer, crossing)
    return tokenizer, gone
