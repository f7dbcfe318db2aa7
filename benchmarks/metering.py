"""The throughput of the transformers Trainer, measured by a callback."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from koner.errors import KonerError

_WARM_UP = 3  # steps that are not timed


class Meter(TrainerCallback):
    """A callback that counts the windows, tokens and padding of training, and times the steps after the first ones."""

    def __init__(self) -> None:
        self._batches: list[tuple[torch.Tensor, int, torch.Tensor]] = []
        self._start = self._end = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pad_id = kwargs["model"].config.pad_token_id

        def count(module: nn.Module, _: Any, inputs: dict[str, torch.Tensor]) -> None:
            if module.training:
                ids = inputs["input_ids"]
                # A window begins with a token that occurs nowhere else. The counts stay on the device, because to
                # copy them would wait for the GPU at every step.
                self._batches.append(((ids == ids[0, 0]).sum(), ids.numel(), (ids != pad_id).sum()))

        kwargs["model"].register_forward_pre_hook(count, with_kwargs=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == _WARM_UP:
            _wait_for_gpu()
            self._start = time.perf_counter()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _wait_for_gpu()
        self._end = time.perf_counter()

    def figures(self) -> dict[str, float]:
        """Return the figures; the rates are meaningful for one epoch only, as evaluation between epochs takes time.

        Raises:
            KonerError: If there were no steps after the warm-up.
        """
        timed = self._batches[_WARM_UP:]
        if not timed:
            raise KonerError(f"--samples is too small: it must make more than {_WARM_UP} batches")
        seconds = self._end - self._start
        real_tokens = sum(int(real) for _, _, real in self._batches)
        return {
            "samples_a_second": sum(int(windows) for windows, _, _ in timed) / seconds,
            "tokens_a_second": sum(int(real) for _, _, real in timed) / seconds,
            "padding": 1 - real_tokens / sum(tokens for _, tokens, _ in self._batches),
            "steps": len(self._batches),
        }


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
