"""The unknown token, by which a tokenizer reads what its vocabulary lacks."""

from __future__ import annotations

import json

from tokenizers import Tokenizer


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of a tokenizer's unknown token, or None if it reads every text without one."""
    name = getattr(tokenizer.model, "unk_token", None)
    if name is not None:
        return tokenizer.token_to_id(name)
    # Unigram names it by its id.
    id_: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
    return id_
