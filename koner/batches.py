"""Batches of about equal numbers of tokens, so that little is padding and every step has as much to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch


class TokenBatches(torch.utils.data.Sampler[list[int]]):
    """Draws batches of windows of like length: many short ones, or few long ones.

    A batch, padded to its longest window, holds at most as many tokens as `batch_size` windows of mean length (a single
    longer window stands alone). An epoch has the same number of batches each time, of the same shapes; which windows of
    one length meet, and in which order the batches come, is drawn from torch's generator.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        self.lengths = torch.tensor(lengths)
        most = batch_size * sum(lengths) / max(1, len(lengths))
        self.sizes: list[int] = []
        size = 0
        for length in sorted(lengths):
            # In rising order the last window is the longest.
            if size and (size + 1) * length > most:
                self.sizes.append(size)
                size = 0
            size += 1
        if size:
            self.sizes.append(size)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(len(self.lengths))
        rising = order[torch.sort(self.lengths[order], stable=True).indices].tolist()
        ends = list(accumulate(self.sizes))
        for i in torch.randperm(len(ends)).tolist():
            yield rising[ends[i] - self.sizes[i] : ends[i]]
