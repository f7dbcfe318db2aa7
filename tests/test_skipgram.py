import sys

import numpy as np
import pytest

from koner.errors import KonerError
from koner.skipgram import token_vectors

CLS, SEP = 0, 2
SPECIALS = [0, 1, 2, 3, 4]


GROUPS = (range(100, 140), range(200, 240))


def corpus():
    """Packs of documents whose tokens are all of one group."""
    random = np.random.default_rng(0)
    documents = [np.r_[CLS, random.choice(GROUPS[i % 2], 28), SEP] for i in range(2_000)]
    return np.concatenate(documents).reshape(-1, 120).astype(np.int32)


def vectors(packs, seed=1):
    return token_vectors(packs, SEP, SPECIALS, 8, 5, seed)


@pytest.fixture(scope="module")
def found():
    return vectors(corpus())


def test_every_token_gets_a_vector_and_no_special_one(found):
    assert sorted(found) == [*GROUPS[0], *GROUPS[1]]
    assert all(v.shape == (8,) and v.dtype == np.float32 for v in found.values())


def test_tokens_of_the_same_documents_get_like_vectors(found):
    unit = {i: v / np.linalg.norm(v) for i, v in found.items()}
    own, other = ([unit[i] @ unit[j] for i in GROUPS[0] for j in group] for group in GROUPS)
    assert min(own) > max(other)


def test_the_vectors_have_the_mean_and_spread_of_an_embedding(found):
    values = np.stack(list(found.values()))
    assert np.abs(values.mean(axis=0)).max() < 1e-3
    assert values.std() == pytest.approx(0.05, rel=1e-3)


def test_a_seed_gives_the_same_vectors_again_and_another_seed_others(found):
    again, other = vectors(corpus()), vectors(corpus(), seed=2)
    assert all(np.array_equal(found[i], again[i]) for i in found)
    assert not all(np.array_equal(found[i], other[i]) for i in found)


def test_documents_have_no_part_in_each_other():
    """A token that stands alone in its documents has no neighbour, and gets no vector."""
    packs = np.array([[CLS, 10, 11, SEP, CLS, 30, SEP, CLS, 10, 11, SEP, CLS]] * 20, np.int32)
    assert sorted(vectors(packs)) == [10, 11]


def test_without_gensim_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim", None)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(KonerError, match=r"skipgram_epochs: gensim is not installed; pip install"):
        vectors(corpus())
