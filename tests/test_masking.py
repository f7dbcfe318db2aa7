import numpy as np
import pytest
import torch

from koner.labels import IGNORED
from koner.packing import NO_WORD
from koner.pretraining import WholeWordMasking

MASK = 4


@pytest.fixture(scope="module")
def masked():
    """A large batch before and after; words of one to three tokens."""
    random = np.random.default_rng(1)
    words = np.repeat(np.arange(3_000), random.integers(1, 4, 3_000))[:5_000]
    words[::10] = NO_WORD
    words = torch.from_numpy(np.stack([words, np.minimum(words, 1_000)]))
    ids = torch.where(words == NO_WORD, 2, torch.from_numpy(random.integers(5, 900, words.shape)))
    torch.manual_seed(0)
    return ids, words, *WholeWordMasking(MASK, 900, range(5), 0.2)(ids, words)


def test_words_are_masked_whole_and_special_tokens_never(masked):
    _, words, read, labels = masked
    told = labels != IGNORED
    assert not told[words == NO_WORD].any()
    for i in (0, 1):
        whole = {}
        for word, hidden, mask in zip(words[i].tolist(), told[i].tolist(), (read[i] == MASK).tolist(), strict=True):
            whole.setdefault(word, set()).add((hidden, mask))
        assert all(len(how) == 1 for how in whole.values())


def test_each_pack_has_words_of_its_own_masked(masked):
    told = masked[3] != IGNORED
    assert not torch.equal(told[0], told[1])


def test_of_the_words_a_fifth_is_masked_and_of_these_four_fifths_by_the_mask(masked):
    ids, words, read, labels = (values[0] for values in masked)
    told = labels != IGNORED
    assert len(set(words[told].tolist())) / len(set(words.tolist()) - {NO_WORD}) == pytest.approx(0.2, abs=0.025)
    assert torch.equal(read[~told], ids[~told])
    assert torch.equal(labels[told], ids[told])
    ids, read = ids[told], read[told]
    shares = [part.float().mean().item() for part in (read == MASK, read == ids, (read != MASK) & (read != ids))]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.04)
    assert read[read != MASK].min() >= 5
