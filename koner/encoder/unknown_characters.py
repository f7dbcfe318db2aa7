"""Isolation of the characters that a WordPiece vocabulary lacks, so that the rest of their word stays known."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from koner.tokens.text_tokenizer import isolate_other_characters


def known_characters(tokenizer: Tokenizer) -> set[str]:
    """Return the characters that a WordPiece tokenizer knows at any position of a word.

    These are the characters of pieces longer than one character, and those with pieces of their own both for the start
    and the inside of a word.
    """
    prefix = tokenizer.model.continuing_subword_prefix
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    pieces = set(tokenizer.get_vocab(with_added_tokens=False)) - added
    without_prefix = (piece.removeprefix(prefix) for piece in pieces)
    characters = {character for piece in without_prefix if len(piece) > 1 for character in piece}
    return characters | {piece for piece in pieces if len(piece) == 1 and f"{prefix}{piece}" in pieces}


def isolate_unknown_characters(tokenizer: Tokenizer) -> Tokenizer:
    """Return a WordPiece tokenizer that treats each unknown character as a word of its own.

    WordPiece replaces a whole word by the unknown token if a single character of it matches no piece: a model would
    see nothing of `앳킨슨은`, and no entity could end inside it. Ids and pieces stay the same, and so a pretrained
    model still fits. A tokenizer without a WordPiece model is returned as it is.
    """
    if not isinstance(tokenizer.model, WordPiece):
        return tokenizer
    copy = Tokenizer.from_str(tokenizer.to_str())
    isolate_other_characters(copy, known_characters(tokenizer))
    return copy
