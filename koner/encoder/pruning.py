"""Vocabulary pruning: removal of the WordPiece pieces that cross the boundaries of entities."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from koner.corpus.sentences import Sentence
from koner.storage.parquet import BATCH
from koner.tokens.text_tokenizer import CONTROL_MARK, TextTokenizer

_ROUNDS = 10
# A removed piece is renamed to one that matches no text, since no word contains a space. All other pieces keep their
# ids, and with them their embeddings.
_REMOVED = " {}"

BoundaryWord = tuple[str, tuple[int, ...]]
"""A word inside which entities begin or end, and the offsets of these boundaries in the word, in code points."""


def collect_boundary_words(sentences: Iterable[Sentence], words: set[BoundaryWord]) -> Iterator[Sentence]:
    """Yield sentences unchanged, and add their boundary words to a set.

    Words are separated by spaces. Memory grows with the distinct words only.

    Args:
        sentences: The sentences.
        words: The set to add to.
    """
    for sentence in sentences:
        text = sentence.text
        boundaries: dict[int, set[int]] = {}
        for boundary in {offset for entity in sentence.entities for offset in (entity.start, entity.end)}:
            start = text.rfind(" ", 0, boundary) + 1
            if start < boundary < len(text) and text[boundary] != " ":
                boundaries.setdefault(start, set()).add(boundary - start)
        for start, offsets in boundaries.items():
            end = text.find(" ", start)
            words.add((text[start : end if end > 0 else None], tuple(sorted(offsets))))
        yield sentence


def boundary_words(sentences: Iterable[Sentence]) -> set[BoundaryWord]:
    """Return the words of sentences inside which entities begin or end."""
    words: set[BoundaryWord] = set()
    for _ in collect_boundary_words(sentences, words):
        pass
    return words


def crossing_pieces(tokenizer: Tokenizer, words: Iterable[BoundaryWord]) -> dict[BoundaryWord, set[str]]:
    """Return the pieces that cross a boundary, special tokens left out, for each word that has any."""
    whole = TextTokenizer(tokenizer, None)
    added = {token.content for token in whole.backend.get_added_tokens_decoder().values()}
    words = list(words)
    pieces_of_words: dict[BoundaryWord, set[str]] = {}
    for i in range(0, len(words), BATCH):
        batch = words[i : i + BATCH]
        encodings = whole.encode_batch([text for text, _ in batch])
        for word, encoding in zip(batch, encodings, strict=True):
            crossing = {
                piece
                for piece, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)
                if _contains(word[1], start, end) and not piece.startswith(CONTROL_MARK)
            }
            if crossing - added:
                pieces_of_words[word] = crossing - added
    return pieces_of_words


def _contains(boundaries: Sequence[int], start: int, end: int) -> bool:
    """Return whether one of the boundaries, in order, lies inside a span."""
    position = bisect_right(boundaries, start)
    return position < len(boundaries) and boundaries[position] < end


def prune_crossing_pieces(tokenizer: Tokenizer, words: Iterable[BoundaryWord]) -> tuple[Tokenizer, list[str]]:
    """Remove the pieces that cross an entity boundary in any of the words from a WordPiece vocabulary.

    A removed piece is replaced by several shorter ones, which may cross a boundary too, so that this is repeated until
    no piece does. Few pieces cause most crossings (`##성이`, `북미`), so that other texts profit too.

    Returns:
        The pruned tokenizer and the removed pieces. A tokenizer without a WordPiece model is returned as it is: the
        pieces that would replace a removed one are not known to be shorter.
    """
    removed: list[str] = []
    if not isinstance(tokenizer.model, WordPiece):
        return tokenizer, removed
    crossing = crossing_pieces(tokenizer, words)
    for _ in range(_ROUNDS):
        # A single character can't be split.
        pieces = sorted({p for pieces in crossing.values() for p in pieces if len(p.removeprefix("##")) > 1})
        if not pieces:
            break
        state = json.loads(tokenizer.to_str())
        vocabulary = state["model"]["vocab"]
        for piece in pieces:
            vocabulary[_REMOVED.format(piece)] = vocabulary.pop(piece)
        removed += pieces
        tokenizer = Tokenizer.from_str(json.dumps(state))
        # The pieces of all other words are the same as before.
        crossing = crossing_pieces(tokenizer, crossing)
    return tokenizer, removed
