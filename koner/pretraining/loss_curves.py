"""The losses of a run of transformers' Trainer as DVCLive plots, written while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from koner.errors import KonerError

# The name of each plot, by the name that the Trainer logs.
_PLOTS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "eval_loss": "held/loss",
    "eval_masked": "held/masked",
    "eval_tags": "held/tags",
    "eval_weak": "held/weak",
}


class LossCurves(TrainerCallback):  # type: ignore[misc]
    """A callback that writes each loss as a table by step below `plots/metrics`, and the latest to `metrics.json`.

    A run that resumes from a checkpoint writes the steps before it again.

    Args:
        folder: The folder to write to.

    Raises:
        KonerError: If dvclive is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from dvclive.live import Live
        except ModuleNotFoundError:
            raise KonerError("dvclive is not installed; pip install 'koner[pretrain]'") from None
        self.live: Any = Live(str(folder), save_dvc_exp=False, dvcyaml=False)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the losses that the run logged before it was interrupted."""
        for row in state.log_history:
            self._log(row["step"], row)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **kwargs: Any
    ) -> None:
        """Write the losses that the run logs."""
        self._log(state.global_step, logs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the run of DVCLive."""
        self.live.end()

    def _log(self, step: int, row: dict[str, Any]) -> None:
        self.live.step = step
        for name, plot in _PLOTS.items():
            if name in row:
                self.live.log_metric(plot, row[name])
        self.live.sync()
