"""Characters that a vocabulary can't spell, set apart so that the word around them stays readable."""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Sequence, Split


def spelt_characters(tokenizer: Tokenizer) -> set[str]:
    """The characters that a WordPiece tokenizer can spell inside words.

    They have pieces of their own both for a word's start and its inside, or are part of longer ones.
    """
    prefix = tokenizer.model.continuing_subword_prefix
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    pieces = set(tokenizer.get_vocab(with_added_tokens=False)) - added
    longer = (piece.removeprefix(prefix) for piece in pieces)
    spelt = {character for piece in longer if len(piece) > 1 for character in piece}
    return spelt | {piece for piece in pieces if len(piece) == 1 and f"{prefix}{piece}" in pieces}


def isolating_unspelt(tokenizer: Tokenizer) -> Tokenizer:
    """A WordPiece tokenizer that takes each character it can't spell for a word of its own.

    WordPiece gives a whole word as its unknown token where any character in it matches no piece: of `앳킨슨은` a
    model would see nothing, and no entity could end inside. Ids and pieces stay, so that a pretrained model fits.
    Tokenizers of other kinds come back as they are.
    """
    if not isinstance(tokenizer.model, WordPiece):
        return tokenizer
    spelt = "".join(re.escape(character) for character in sorted(spelt_characters(tokenizer)))
    copy = Tokenizer.from_str(tokenizer.to_str())
    apart = Split(Regex(f"[^{spelt}]" if spelt else "."), "isolated")
    copy.pre_tokenizer = Sequence([*([copy.pre_tokenizer] if copy.pre_tokenizer else []), apart])
    return copy
