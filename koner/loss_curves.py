"""The losses of a run of transformers' Trainer as curves of DVCLive, to be seen while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from koner.errors import KonerError

# What the Trainer calls it, and what the curve is called.
_CURVES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "eval_loss": "held/loss",
    "eval_masked": "held/masked",
    "eval_tags": "held/tags",
}


class LossCurves(TrainerCallback):  # type: ignore[misc]
    """Writes a table for each curve below `folder/plots/metrics`, by step, and their last values to `metrics.json`.

    A run that goes on from a checkpoint writes them anew up to there. Raises `KonerError` without dvclive.
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
        """Writes what a run logged before it was killed."""
        for row in state.log_history:
            self._log(row["step"], row)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **kwargs: Any
    ) -> None:
        """Writes what the run logs now."""
        self._log(state.global_step, logs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ends DVCLive's run."""
        self.live.end()

    def _log(self, step: int, row: dict[str, Any]) -> None:
        self.live.step = step
        for name, curve in _CURVES.items():
            if name in row:
                self.live.log_metric(curve, row[name])
        self.live.sync()
