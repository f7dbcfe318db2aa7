"""Whole-word masking."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from koner.labels.bio import IGNORE_INDEX
from koner.pretraining.packing import NO_WORD


class WholeWordMasking:
    """Masking of whole words, separated by spaces, for masked language modelling (Cui et al. 2019).

    Of the masked words 80 % are replaced by the mask token, 10 % by random tokens, and 10 % stay as they are.

    Args:
        mask_id: The id of the mask token.
        vocabulary: The number of tokens of the vocabulary.
        specials: The ids of special tokens, which never replace a token.
        share: The share of words to mask.
    """

    def __init__(self, mask_id: int, vocabulary: int, specials: Sequence[int], share: float) -> None:
        self.mask_id, self.share = mask_id, share
        self.replacements = torch.tensor(sorted(set(range(vocabulary)) - set(specials)))

    def __call__(self, input_ids: torch.Tensor, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask words of a batch.

        Args:
            input_ids: Token ids, int64 (packs, tokens).
            words: The word of each token, counted from 0 in each pack, int64 (packs, tokens); `NO_WORD` for special
                tokens.

        Returns:
            The ids that the model reads, and the labels to predict: `IGNORE_INDEX` except at tokens of masked words.
        """
        device = input_ids.device
        # There are at most as many words as tokens: each word reads the random number at its own index.
        word_index = words.clamp(min=0)
        is_masked = (torch.rand(words.shape, device=device) < self.share).gather(1, word_index) & (words != NO_WORD)
        choice = torch.rand(words.shape, device=device).gather(1, word_index)
        replacements = self.replacements.to(device)[torch.randint(len(self.replacements), words.shape, device=device)]
        masked_ids = torch.where(is_masked & (choice < 0.8), self.mask_id, input_ids)
        masked_ids = torch.where(is_masked & (choice >= 0.9), replacements, masked_ids)
        return masked_ids, torch.where(is_masked, input_ids, IGNORE_INDEX)
