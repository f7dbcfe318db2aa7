"""The Trainer callback that reports a trial's scores to Optuna."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import Trial
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from koner.sweep.attributes import ATTEMPT


class PruningCallback(TrainerCallback):  # type: ignore[misc]
    """A callback that reports each epoch's F1 on the development part, and prunes the trial if it falls behind."""

    def __init__(self, trial: Trial) -> None:
        """Create a callback for one trial."""
        self.trial = trial

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report the epochs of the checkpoint that the run resumes from, if there is one."""
        for row in state.log_history:
            if "eval_f1" in row:
                self.trial.report(row["eval_f1"], round(row["epoch"]))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Report the F1 of an epoch.

        Raises:
            optuna.TrialPruned: If it is below the median of the other trials. The last epoch is not pruned, since that
                would save no time.
        """
        epoch = round(state.epoch or 0)
        self.trial.report(metrics["eval_f1"], epoch)
        self.trial.set_user_attr(ATTEMPT, 0)
        if epoch < args.num_train_epochs and self.trial.should_prune():
            raise optuna.TrialPruned(f"epoch {epoch} of {args.num_train_epochs:.0f}")
