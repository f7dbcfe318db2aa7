import numpy as np
import pytest
import torch

from koner.labels.bio import IGNORE_INDEX
from koner.pretraining.masking import WholeWordMasking
from koner.pretraining.packing import NO_WORD

MASK = 4


@pytest.fixture(scope="module")
def masked():
    """A large batch of words of one to three tokens, before and after masking."""
    random = np.random.default_rng(1)
    words = np.repeat(np.arange(3_000), random.integers(1, 4, 3_000))[:5_000]
    words[::10] = NO_WORD
    words = torch.from_numpy(np.stack([words, np.minimum(words, 1_000)]))
    ids = torch.where(words == NO_WORD, 2, torch.from_numpy(random.integers(5, 900, words.shape)))
    torch.manual_seed(0)
    return ids, words, *WholeWordMasking(MASK, 900, range(5), 0.2)(ids, words)


def test_words_are_masked_whole_and_special_tokens_are_not_masked(masked):
    _, words, masked_ids, labels = masked
    is_masked = labels != IGNORE_INDEX
    assert not is_masked[words == NO_WORD].any()
    for i in (0, 1):
        treatments = {}
        has_mask = masked_ids[i] == MASK
        for word, *treatment in zip(words[i].tolist(), is_masked[i].tolist(), has_mask.tolist(), strict=True):
            treatments.setdefault(word, set()).add(tuple(treatment))
        assert all(len(of_word) == 1 for of_word in treatments.values())


def test_each_pack_is_masked_independently(masked):
    is_masked = masked[3] != IGNORE_INDEX
    assert not torch.equal(is_masked[0], is_masked[1])


def test_a_fifth_of_the_words_is_masked_and_four_fifths_of_these_by_the_mask_token(masked):
    ids, words, masked_ids, labels = (values[0] for values in masked)
    is_masked = labels != IGNORE_INDEX
    assert len(set(words[is_masked].tolist())) / len(set(words.tolist()) - {NO_WORD}) == pytest.approx(0.2, abs=0.025)
    assert torch.equal(masked_ids[~is_masked], ids[~is_masked])
    assert torch.equal(labels[is_masked], ids[is_masked])
    ids, new = ids[is_masked], masked_ids[is_masked]
    shares = [part.float().mean().item() for part in (new == MASK, new == ids, (new != MASK) & (new != ids))]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.04)
    assert new[new != MASK].min() >= 5
