"""A data collator that packs the windows of a batch into shared rows, so that there is little padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from koner.errors import KonerError
from koner.labels.bio import IGNORE_INDEX
from koner.tokens.windows import first_position

# The most tokens of a row, as a multiple of the longest window: attention in longer rows costs more than padding saves.
_MAX_ROW_FACTOR = 2
_TOLERANCE = 1e-4


def first_fit_decreasing(lengths: Sequence[int]) -> list[list[int]]:
    """Pack windows into rows by first-fit decreasing, so that rows padded to one length hold the least padding.

    Every capacity of a row is tried, from the length of the longest window to twice that; if several give the same
    amount of padding, the smallest is used.

    Args:
        lengths: The number of tokens of each window.

    Returns:
        The indices of the windows in each row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    longest = max(lengths)
    packings = (_first_fit(lengths, order, capacity) for capacity in range(longest, _MAX_ROW_FACTOR * longest + 1))
    return min(packings, key=lambda rows: len(rows) * max(sum(lengths[i] for i in row) for row in rows))


def _first_fit(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    free: list[int] = []
    for i in order:
        for r, room in enumerate(free):
            if lengths[i] <= room:
                rows[r].append(i)
                free[r] -= lengths[i]
                break
        else:
            rows.append([i])
            free.append(capacity - lengths[i])
    return rows


class PackingCollator:
    """A data collator that puts several windows into a row.

    Each window has its own positions, and an attention mask of shape (rows, 1, length, length) that isolates it from
    the others in its row. Scores, loss and gradients equal those of padded windows except for rounding and for the
    units that dropout masks.

    The `DataCollatorWithFlattening` of transformers isolates windows with flash attention only, which needs a GPU.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Read from the model's configuration how it pads, numbers positions and masks attention."""
        self.padding_id = int(model.config.pad_token_id)
        self.first_position = first_position(model.config.to_dict())
        # SDPA takes a boolean mask; the eager implementation adds the mask to the attention scores.
        self.is_additive_mask = model.config._attn_implementation != "sdpa"

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of windows that have `input_ids` and `labels`.

        Returns:
            `input_ids`, `labels` and `position_ids` of shape (rows, length), and `attention_mask`.
        """
        lengths = [len(item["input_ids"]) for item in items]
        rows = first_fit_decreasing(lengths)
        shape = (len(rows), max(sum(lengths[i] for i in row) for row in rows))
        ids, labels = torch.full(shape, self.padding_id), torch.full(shape, IGNORE_INDEX)
        positions, windows = torch.full(shape, self.first_position), torch.full(shape, -1)
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
        if self.is_additive_mask:
            mask = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
        return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": mask}


def check_packing_support(model: PreTrainedModel, collator: PackingCollator) -> None:
    """Check that a model gives packed windows the same scores as single ones.

    Raises:
        KonerError: If it does not, for example because it ignores the attention mask or computes its own positions.
    """
    last = min(model.config.vocab_size, 16) - 1
    # These are packed into two rows of 5 tokens: the second window, and the third followed by the first.
    items = [{"input_ids": [last - i for i in range(length)], "labels": [0] * length} for length in (2, 5, 3)]
    packed = collator(items)
    packed.pop("labels")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            packed_scores = model(**packed).logits
            scores = [model(input_ids=torch.tensor([item["input_ids"]])).logits[0] for item in items]
        expected = torch.stack([scores[1], torch.cat([scores[2], scores[0]])])
        is_supported = torch.allclose(packed_scores, expected, atol=_TOLERANCE)
    except (RuntimeError, TypeError, ValueError, IndexError):
        is_supported = False
    finally:
        model.train(was_training)
    if not is_supported:
        model_type = model.config.model_type
        raise KonerError(f"batching: a model of type {model_type} does not support packed windows; set it to padded")
