"""A search for training parameters that several workers share, with Optuna.

torch and transformers are imported on use: they take seconds, and a study that is complete or refused needs neither.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from koner.errors import KonerError
from koner.params import Params
from koner.release.hashing import folder_hash
from koner.sweep.attributes import ATTEMPT, FIRST, RETRY_OF
from koner.sweep.plan import SWEEPABLE, SweepPlan

if TYPE_CHECKING:
    from transformers import TrainerCallback

optuna.logging.set_verbosity(optuna.logging.WARNING)
_logger = logging.getLogger(__name__)

# Trains with the parameters, keeps checkpoints in the folder, and returns the best epoch's F1 on the development part.
Objective = Callable[[Params, Path, "TrainerCallback"], float]

# The parameters that affect a trial and that the data do not already depend on.
_TRIAL_PARAMETERS = ("max_length", "stride", "seed", *SWEEPABLE)
# A trial is given up after so many starts without another finished epoch.
_MAX_ATTEMPTS = 3
_STATE_NAMES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        number: The number of the best trial, the earliest if several are equal.
        params: The parameters of that trial.
        f1: Its F1 on the development part.
        counts: The numbers of trials that were completed, pruned or failed, or are running.
    """

    number: int
    params: dict[str, Any]
    f1: float
    counts: dict[str, int]

    @property
    def command(self) -> str:
        """The command that runs the pipeline with the parameters of the best trial."""
        return " ".join(["dvc exp run", *(f"-S {name}={value}" for name, value in self.params.items())])


class Sweep:
    """A study on disk that any number of processes of one machine work on.

    Trials are drawn by the tree-structured Parzen estimator (Bergstra et al. 2011). Each trial has its own seed, which
    depends on the plan's seed and the trial's place, so that one worker draws the same trials in every run, even if it
    is interrupted. With several workers, a trial also depends on the results that the others have stored by then.

    Optuna's `Study.optimize` and its heartbeat are not used: they fail a trial on Ctrl-C, and a killed one only after a
    grace period, whereas here the same command resumes both at once from their last checkpoint.
    """

    def __init__(self, plan: SweepPlan, params: Params, inputs: Sequence[Path], folder: Path) -> None:
        """Open the study, or create it.

        Args:
            plan: The search space and the number of trials.
            params: The parameters that are not searched.
            inputs: The folders of the base model and the data.
            folder: The folder of the study.

        Raises:
            KonerError: If the study cannot be read, or has trials with another search space, parameters or inputs.
        """
        self.plan, self.params, self.folder = plan, params, folder
        folder.mkdir(parents=True, exist_ok=True)
        # Held while a trial is selected, not while it runs.
        self._lock = FileLock(folder / "study.lock")
        with self._lock, self._storage_errors():
            self._study = self._open()
            self._check_setting({str(path): folder_hash(path) for path in inputs})

    def run_trials(self, objective: Objective) -> None:
        """Run trials until there are as many as the plan says, starting with those whose process was killed."""
        with self._storage_errors():
            while (next_trial := self._next_trial()) is not None:
                trial, lease = next_trial
                with lease:
                    self._run_trial(trial, objective)

    def result(self) -> SweepResult:
        """Return the best of the completed trials.

        Raises:
            KonerError: If no trial has been completed.
        """
        completed = self._completed_trials()
        if not completed:
            raise KonerError(f"{self.folder}: no trial has been completed")
        best = max(completed, key=lambda trial: (trial.value, -trial.number))
        trials = self._study.get_trials(deepcopy=False)
        retried = _retried_numbers(trials)
        states = [trial.state for trial in trials if trial.number not in retried]
        counts = {name: states.count(state) for state, name in _STATE_NAMES.items()}
        return SweepResult(best.number, dict(best.params), float(best.value or 0.0), counts)

    def _open(self) -> optuna.Study:
        storage = optuna.storages.RDBStorage(
            URL.create("sqlite", database=str(self.folder / "trials.db")).render_as_string(),
            engine_kwargs={"connect_args": {"timeout": 60}},
        )
        # Epochs count from 1, and the pruner compares them with "less than".
        pruner = optuna.pruners.MedianPruner(self.plan.startup_trials, self.plan.warmup_epochs + 1)
        return optuna.create_study(
            storage=storage, study_name=self.plan.study, direction="maximize", pruner=pruner, load_if_exists=True
        )

    def _check_setting(self, inputs: dict[str, str]) -> None:
        search = {name: json.loads(distribution_to_json(values)) for name, values in self.plan.search.items()}
        fixed = {name: getattr(self.params, name) for name in _TRIAL_PARAMETERS if name not in self.plan.search}
        setting = {"search": search, "fixed parameters": fixed, "data": inputs}
        stored = self._study.user_attrs.get("setting")
        if stored is None:
            self._study.set_user_attr("setting", setting)
            return
        for name, value in setting.items():
            if stored[name] != value:
                keys = " and ".join(k for k in {**stored[name], **value} if stored[name].get(k) != value.get(k))
                raise KonerError(
                    f"{self.folder} holds trials with another {name} ({keys}), which can't be compared with new ones; "
                    "give the study another name, or remove that folder"
                )

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise KonerError(f"{self.folder / 'trials.db'} can't be read or written as a study: {reason}") from None

    def _next_trial(self) -> tuple[Trial, AbstractContextManager[Any]] | None:
        """Return a trial with the lease on it, or None if the plan's number is reached."""
        with self._lock:
            self._retry_killed_trials()
            trials = self._study.get_trials(deepcopy=False)
            retried = _retried_numbers(trials)
            count = sum(t.number not in retried and t.state is not TrialState.WAITING for t in trials)
            if count >= self.plan.trials:
                return None
            seed = int(np.random.SeedSequence((self.plan.seed, count)).generate_state(1)[0])
            self._study.sampler = optuna.samplers.TPESampler(n_startup_trials=self.plan.startup_trials, seed=seed)
            trial = self._study.ask(self.plan.search)
            return trial, self._lease(trial.number).acquire(timeout=0)

    def _retry_killed_trials(self) -> None:
        """Fail the running trials on which no process has a lease, and enqueue them again."""
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state is not TrialState.RUNNING:
                continue
            try:
                with self._lease(trial.number).acquire(timeout=0):
                    attempt = trial.user_attrs.get(ATTEMPT, 1)
                    if attempt < _MAX_ATTEMPTS and trial.number not in _retried_numbers(trials):
                        first = trial.user_attrs.get(FIRST, trial.number)
                        attributes = {RETRY_OF: trial.number, FIRST: first, ATTEMPT: attempt + 1}
                        self._study.enqueue_trial(trial.params, attributes)
                    self._study.tell(trial.number, state=TrialState.FAIL)
            except Timeout:
                continue

    def _lease(self, number: int) -> FileLock:
        # The operating system releases the lock when the process ends for any reason.
        return FileLock(self.folder / f"trial-{number}.lock")

    def _run_trial(self, trial: Trial, objective: Objective) -> None:
        prefix = f"sweep: trial {trial.number}:"
        assignments = " ".join(f"{name}={value}" for name, value in trial.params.items())
        equal = next((t for t in self._completed_trials() if t.params == trial.params), None)
        if equal is not None:
            _logger.info("%s %s: F1 %.4f, as in trial %d", prefix, assignments, equal.value, equal.number)
            self._study.tell(trial, equal.value)
            return
        import torch

        from koner.sweep.callback import PruningCallback

        _logger.info("%s %s", prefix, assignments)
        checkpoints = self.folder / f"trial-{trial.user_attrs.get(FIRST, trial.number)}"
        try:
            f1 = objective(self.params.model_copy(update=trial.params), checkpoints, PruningCallback(trial))
        except optuna.TrialPruned as error:
            self._study.tell(trial, state=TrialState.PRUNED)
            _logger.info("%s pruned after %s", prefix, error)
        except torch.OutOfMemoryError:
            self._study.tell(trial, state=TrialState.FAIL)
            torch.cuda.empty_cache()
            _logger.info("%s failed: the GPU has too little memory for it", prefix)
        except KeyboardInterrupt:
            # An interruption by the user does not count as an attempt.
            trial.set_user_attr(ATTEMPT, 0)
            raise
        else:
            self._study.tell(trial, f1)
            _logger.info("%s F1 %.4f", prefix, f1)
        shutil.rmtree(checkpoints, ignore_errors=True)

    def _completed_trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _retried_numbers(trials: Sequence[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[RETRY_OF] for trial in trials if RETRY_OF in trial.user_attrs}
