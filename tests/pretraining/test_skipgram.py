import sys

import numpy as np
import pytest

from koner.errors import KonerError
from koner.pretraining.skipgram import skipgram_vectors

CLS, SEP = 0, 2
SPECIALS = [0, 1, 2, 3, 4]


GROUPS = (range(100, 140), range(200, 240))


def corpus():
    """Packs of documents whose tokens are all of one group."""
    random = np.random.default_rng(0)
    documents = [np.r_[CLS, random.choice(GROUPS[i % 2], 28), SEP] for i in range(2_000)]
    return np.concatenate(documents).reshape(-1, 120).astype(np.int32)


def train(packs, seed=1):
    return skipgram_vectors(packs, SEP, SPECIALS, 8, 5, seed)


@pytest.fixture(scope="module")
def vectors():
    return train(corpus())


def test_every_token_has_a_vector_except_special_tokens(vectors):
    assert sorted(vectors) == [*GROUPS[0], *GROUPS[1]]
    assert all(v.shape == (8,) and v.dtype == np.float32 for v in vectors.values())


def test_tokens_of_the_same_documents_have_similar_vectors(vectors):
    unit = {i: v / np.linalg.norm(v) for i, v in vectors.items()}
    own, other = ([unit[i] @ unit[j] for i in GROUPS[0] for j in group] for group in GROUPS)
    assert min(own) > max(other)


def test_vectors_have_the_mean_and_standard_deviation_of_embeddings(vectors):
    values = np.stack(list(vectors.values()))
    assert np.abs(values.mean(axis=0)).max() < 1e-3
    assert values.std() == pytest.approx(0.05, rel=1e-3)


def test_vectors_depend_on_the_seed_alone(vectors):
    again, other = train(corpus()), train(corpus(), seed=2)
    assert all(np.array_equal(vectors[i], again[i]) for i in vectors)
    assert not all(np.array_equal(vectors[i], other[i]) for i in vectors)


def test_a_token_alone_in_its_document_has_no_neighbour_and_no_vector():
    packs = np.array([[CLS, 10, 11, SEP, CLS, 30, SEP, CLS, 10, 11, SEP, CLS]] * 20, np.int32)
    assert sorted(train(packs)) == [10, 11]


def test_missing_gensim_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim", None)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(KonerError, match=r"skipgram_epochs: gensim is not installed; pip install"):
        train(corpus())
