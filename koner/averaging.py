"""A running mean of a model's weights over training steps, which is judged and kept in place of the last weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class WeightAveraging(TrainerCallback):  # type: ignore[misc]
    """Averages weights exponentially over steps (Polyak and Juditsky 1992): `decay` of the mean stays at each step.

    From the end of an epoch, when it is scored and saved, to the begin of the next the model has the mean; the weights
    that training goes on from are kept beside the checkpoint.
    """

    def __init__(self, decay: float) -> None:
        self._average = get_ema_multi_avg_fn(decay)
        self._mean: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Starts the mean at the model's weights; where a run goes on, these are the mean, and the others are read."""
        parameters = _parameters(given["model"])
        self._mean = [p.detach().clone() for p in parameters]
        if state.global_step:
            kept = load_file(self._file(args, state))
            self._weights = [kept[str(i)] for i in range(len(parameters))]
            self.on_epoch_begin(args, state, control, **given)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Takes the step's weights into the mean."""
        with torch.no_grad():
            self._average(self._mean, [p.detach() for p in _parameters(given["model"])], state.global_step)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Puts the mean in the model's place."""
        parameters = _parameters(given["model"])
        self._weights = [p.detach().clone() for p in parameters]
        if state.is_world_process_zero:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            for other in Path(args.output_dir).glob("weights-*.safetensors"):
                other.unlink()
            save_file({str(i): w for i, w in enumerate(self._weights)}, self._file(args, state))
        _write(parameters, self._mean)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Takes training up again from the weights that the last step left."""
        if self._weights:
            _write(_parameters(given["model"]), self._weights)

    def _file(self, args: TrainingArguments, state: TrainerState) -> Path:
        return Path(args.output_dir) / f"weights-{state.global_step}.safetensors"


def _parameters(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    return list(model.parameters())


def _write(parameters: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
