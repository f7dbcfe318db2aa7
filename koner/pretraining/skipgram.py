"""Skip-gram vectors of tokens, to initialize the embeddings of a small model with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tqdm import tqdm

from koner.errors import KonerError

_WINDOW, _NEGATIVES, _SUBSAMPLING, _RATE = 5, 5, 1e-4, 0.05
# Standard deviation of the values of all vectors. With the 0.02 of BERT's initialization, the vectors are too small
# beside the position embeddings.
_SPREAD = 0.05
# Packs that are read at a time; the document that crosses the end of such a block is split.
_BLOCK = 64


class _Documents:
    """The documents of packs as lists of token ids without special tokens; they can be iterated over repeatedly."""

    def __init__(self, packs: np.ndarray, separator: int, specials: Iterable[int]) -> None:
        self._packs, self._separator, self._specials = packs, separator, list(specials)

    def __iter__(self) -> Iterator[list[int]]:
        for start in tqdm(range(0, len(self._packs), _BLOCK), "skip-gram", unit=f" x {_BLOCK} packs", mininterval=1):
            ids = self._packs[start : start + _BLOCK].ravel()
            is_plain = ~np.isin(ids, self._specials)
            cuts = np.flatnonzero(ids == self._separator)
            for document, is_plain_token in zip(np.split(ids, cuts), np.split(is_plain, cuts), strict=True):
                tokens: list[int] = document[is_plain_token].tolist()
                if len(tokens) > 1:
                    yield tokens


def skipgram_vectors(
    packs: np.ndarray, separator: int, specials: Iterable[int], size: int, epochs: int, seed: int
) -> dict[int, np.ndarray]:
    """Train skip-gram vectors with negative sampling (Mikolov et al. 2013).

    Args:
        packs: Token ids (packs, tokens).
        separator: The id of the token at the end of a document.
        specials: The ids of special tokens, which are left out.
        size: The number of dimensions.
        epochs: The number of passes over the packs.
        seed: The seed of the random numbers.

    Returns:
        A float32 vector for each token that has a neighbour in a document. All vectors together have mean 0 and the
        standard deviation of embeddings.

    Raises:
        KonerError: If gensim is not installed.
    """
    try:
        from gensim.models import Word2Vec
    except ModuleNotFoundError:
        raise KonerError(
            "skipgram_epochs: gensim is not installed; pip install 'koner[pretrain]', or set it to 0"
        ) from None
    model = Word2Vec(
        _Documents(packs, separator, specials),
        vector_size=size,
        window=_WINDOW,
        sg=1,
        negative=_NEGATIVES,
        sample=_SUBSAMPLING,
        min_count=1,
        alpha=_RATE,
        epochs=epochs,
        seed=seed,
        # More workers are hardly faster, and their results are not reproducible.
        workers=1,
    )
    vectors = model.wv.vectors - model.wv.vectors.mean(axis=0)
    vectors *= _SPREAD / vectors.std()
    return dict(zip(model.wv.index_to_key, vectors.astype(np.float32), strict=True))
