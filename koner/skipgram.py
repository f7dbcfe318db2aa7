"""Token embeddings to start a small model from: skip-gram vectors of the very tokens it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tqdm import tqdm

from koner.errors import KonerError

_WINDOW, _NEGATIVES, _SUBSAMPLING, _RATE = 5, 5, 1e-4, 0.05
# Of the values of a vector: 0.02, as BERT draws its own, leaves what is known too faint beside the positions.
_SPREAD = 0.05
# Packs that are read at once: where they end, a document is cut in two.
_BLOCK = 64


class _Sentences:
    """The documents of packs as lists of token ids, special tokens left out; can be read again and again."""

    def __init__(self, packs: np.ndarray, separator: int, specials: Iterable[int]) -> None:
        self._packs, self._separator, self._specials = packs, separator, list(specials)

    def __iter__(self) -> Iterator[list[int]]:
        for start in tqdm(range(0, len(self._packs), _BLOCK), "skip-gram", unit=f" x {_BLOCK} packs", mininterval=1):
            ids = self._packs[start : start + _BLOCK].ravel()
            plain = ~np.isin(ids, self._specials)
            cuts = np.flatnonzero(ids == self._separator)
            for part, kept in zip(np.split(ids, cuts), np.split(plain, cuts), strict=True):
                tokens: list[int] = part[kept].tolist()
                if len(tokens) > 1:
                    yield tokens


def token_vectors(
    packs: np.ndarray, separator: int, specials: Iterable[int], size: int, epochs: int, seed: int
) -> dict[int, np.ndarray]:
    """Trains skip-gram vectors with negative sampling (Mikolov et al. 2013) on packs of token ids (packs, tokens).

    Gives a float32 vector of `size` for every token that has another beside it, all of them together with mean 0 and
    the spread of an embedding. The same seed gives the same numbers. Raises `KonerError` without gensim.
    """
    try:
        from gensim.models import Word2Vec
    except ModuleNotFoundError:
        raise KonerError(
            "skipgram_epochs: gensim is not installed; pip install 'koner[pretrain]', or set it to 0"
        ) from None
    model = Word2Vec(
        _Sentences(packs, separator, specials),
        vector_size=size,
        window=_WINDOW,
        sg=1,
        negative=_NEGATIVES,
        sample=_SUBSAMPLING,
        min_count=1,
        alpha=_RATE,
        epochs=epochs,
        seed=seed,
        # More are not much faster, and give other numbers each time.
        workers=1,
    )
    vectors = model.wv.vectors - model.wv.vectors.mean(axis=0)
    vectors *= _SPREAD / vectors.std()
    return dict(zip(model.wv.index_to_key, vectors.astype(np.float32), strict=True))
