"""Batches with hardly any padding: the windows of a batch share rows, and each attends only to itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from koner.errors import KonerError
from koner.labels import IGNORED

# Rows longer than that would spend more on attention than they save in padding.
_MOST = 2  # times the longest window
_TOLERANCE = 1e-4


def rows_of(lengths: Sequence[int]) -> list[list[int]]:
    """Lays windows of these lengths (tokens) into rows, so that rows padded to the longest hold least padding.

    Gives the windows' indices by row. First fit, longest first, for every length of row from that of the longest window
    to twice that; of several with as little padding the shortest rows.
    """
    falling = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    longest = max(lengths)
    tried = (_first_fit(lengths, falling, most) for most in range(longest, _MOST * longest + 1))
    return min(tried, key=lambda rows: len(rows) * max(sum(lengths[i] for i in row) for row in rows))


def _first_fit(lengths: Sequence[int], order: Sequence[int], most: int) -> list[list[int]]:
    rows: list[list[int]] = []
    left: list[int] = []
    for i in order:
        for r, room in enumerate(left):
            if lengths[i] <= room:
                rows[r].append(i)
                left[r] -= lengths[i]
                break
        else:
            rows.append([i])
            left.append(most - lengths[i])
    return rows


class PackingCollator:
    """Collates windows (`input_ids`, `labels`) into rows that several share: (rows, length) instead of (windows, ...).

    Every window has positions of its own and an attention mask (rows, 1, length, length) that shows it only its own
    tokens, so that scores, loss and gradients are those of windows padded one by one, but for rounding and the draws of
    dropout.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.pad = int(model.config.pad_token_id)
        # RoBERTa and its kin count from the padding id + 1.
        self.first = self.pad + 1 if "roberta" in model.config.model_type else 0
        # What SDPA masks by; the plain implementation adds its mask to the scores.
        self.added = model.config._attn_implementation != "sdpa"

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch: `input_ids`, `labels`, `position_ids` and `attention_mask`."""
        lengths = [len(item["input_ids"]) for item in items]
        rows = rows_of(lengths)
        shape = (len(rows), max(sum(lengths[i] for i in row) for row in rows))
        ids, labels = torch.full(shape, self.pad), torch.full(shape, IGNORED)
        positions, windows = torch.full(shape, self.first), torch.full(shape, -1)
        for r, row in enumerate(rows):
            start = 0
            for i in row:
                end = start + lengths[i]
                ids[r, start:end] = torch.tensor(items[i]["input_ids"])
                labels[r, start:end] = torch.tensor(items[i]["labels"])
                positions[r, start:end] += torch.arange(lengths[i])
                windows[r, start:end] = i
                start = end
        mask = (windows[:, :, None] == windows[:, None, :])[:, None]
        if self.added:
            mask = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
        return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": mask}


def assert_packs(model: PreTrainedModel, collator: PackingCollator) -> None:
    """Raises `KonerError` where the model scores windows that share a row otherwise than each alone."""
    last = min(model.config.vocab_size, 16) - 1
    # Rows of 5 tokens: the second window, and the third with the first behind it.
    items = [{"input_ids": [last - i for i in range(length)], "labels": [0] * length} for length in (2, 5, 3)]
    packed = collator(items)
    packed.pop("labels")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            together = model(**packed).logits
            alone = [model(input_ids=torch.tensor([item["input_ids"]])).logits[0] for item in items]
        same = torch.allclose(together, torch.stack([alone[1], torch.cat([alone[2], alone[0]])]), atol=_TOLERANCE)
    except (RuntimeError, TypeError, ValueError, IndexError):
        same = False
    finally:
        model.train(was_training)
    if not same:
        kind = model.config.model_type
        raise KonerError(f"batching: a model of type {kind} does not take packed windows; set it to padded")
