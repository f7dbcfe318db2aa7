"""What a model is trained on, counted while transformers' Trainer trains it."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from koner.errors import KonerError

_WARM = 3  # steps that are not timed


class Meter(TrainerCallback):
    """Counts the windows, tokens and padding that a model is trained on, and the seconds after the first steps."""

    def __init__(self) -> None:
        self.batches: list[tuple[torch.Tensor, int, torch.Tensor]] = []
        self.first = self.last = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pad = kwargs["model"].config.pad_token_id

        def count(module: nn.Module, _: Any, inputs: dict[str, torch.Tensor]) -> None:
            if module.training:
                ids = inputs["input_ids"]
                # Windows begin with one token, and no other is like it. Left on the device: to ask holds up the work.
                self.batches.append(((ids == ids[0, 0]).sum(), ids.numel(), (ids != pad).sum()))

        kwargs["model"].register_forward_pre_hook(count, with_kwargs=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == _WARM:
            _wait_for_gpu()
            self.first = time.perf_counter()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _wait_for_gpu()
        self.last = time.perf_counter()

    def figures(self) -> dict[str, float]:
        """What was counted; rates only of a single epoch, since what comes between two is none of it."""
        timed = self.batches[_WARM:]
        if not timed:
            raise KonerError(f"--samples: more than {_WARM} batches are needed")
        seconds = self.last - self.first
        shown = sum(int(real) for _, _, real in self.batches)
        return {
            "samples_a_second": sum(int(windows) for windows, _, _ in timed) / seconds,
            "tokens_a_second": sum(int(real) for _, _, real in timed) / seconds,
            "padding": 1 - shown / sum(tokens for _, tokens, _ in self.batches),
            "steps": len(self.batches),
        }


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
