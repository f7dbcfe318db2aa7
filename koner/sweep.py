"""A search for better training parameters: Optuna draws them, trials that fall behind end early, workers share it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from filelock import FileLock, Timeout
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from koner.errors import KonerError
from koner.locking import folder_hash
from koner.params import Params
from koner.sweep_plan import SWEEPABLE, SweepPlan

optuna.logging.set_verbosity(optuna.logging.WARNING)

# Trains with the parameters, keeping checkpoints in the folder, and gives the best epoch's F1 on development.
Run = Callable[[Params, Path, TrainerCallback], float]

# Of what isn't searched, the parameters that the result hangs on; what hangs on others is in the data.
_FIXED = ("max_length", "stride", "boundaries", "seed", *SWEEPABLE)
# Times that a trial is begun whose process is killed before another epoch ends.
_ATTEMPTS = 3
# User attributes: the trial that is begun again, the first of them, and how often it was begun since an epoch ended.
_AGAIN, _FIRST, _ATTEMPT = "again", "first", "attempt"


@dataclass(frozen=True)
class SweepResult:
    """The best trial (the earlier of equals), its parameters and F1 on development, and trials by how they ended."""

    number: int
    params: dict[str, Any]
    f1: float
    ended: dict[str, int]

    @property
    def command(self) -> str:
        """The command that runs the pipeline with the best trial's parameters."""
        return " ".join(["dvc exp run", *(f"-S {_assigned(item)}" for item in self.params.items())])


class EpochReports(TrainerCallback):  # type: ignore[misc]
    """Tells Optuna every epoch's F1 on development; raises `optuna.TrialPruned` where it is below the others' median.

    A run that goes on from a checkpoint tells those before it first.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tells what a run had before it was killed."""
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
        """Tells an epoch's F1 and ends the trial if it fell behind; the last epoch's has nothing more to save."""
        epoch = round(state.epoch or 0)
        self.trial.report(metrics["eval_f1"], epoch)
        self.trial.set_user_attr(_ATTEMPT, 0)
        if epoch < args.num_train_epochs and self.trial.should_prune():
            raise optuna.TrialPruned(f"epoch {epoch} of {args.num_train_epochs:.0f}")


class Sweep:
    """A study on disk, in `folder`, that any number of processes of one machine work on.

    It belongs to one search over one setting: raises `KonerError` where `folder` holds trials of another, or can't be
    read. Each trial is drawn by Optuna's TPE (Bergstra et al. 2011) with a seed of its own, after the plan's seed and
    its place: so one worker draws the same trials in every run, interrupted or not. Of several, each sees what the
    others have found by then.
    """

    def __init__(self, plan: SweepPlan, params: Params, inputs: Sequence[Path], folder: Path) -> None:
        self.plan, self.params, self.folder = plan, params, folder
        folder.mkdir(parents=True, exist_ok=True)
        # Held only while a trial is chosen.
        self._lock = FileLock(folder / "study.lock")
        with self._lock, self._told_plainly():
            self._study = self._open()
            self._check_setting({str(path): folder_hash(path) for path in inputs})

    def _open(self) -> optuna.Study:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.folder / 'trials.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        # An epoch counts from 1, and after a last one of warm-up the next may end a trial.
        pruner = optuna.pruners.MedianPruner(self.plan.startup_trials, self.plan.warmup_epochs + 1)
        return optuna.create_study(
            storage=storage, study_name=self.plan.study, direction="maximize", pruner=pruner, load_if_exists=True
        )

    def _check_setting(self, inputs: dict[str, str]) -> None:
        search = {name: json.loads(distribution_to_json(drawn)) for name, drawn in self.plan.search.items()}
        fixed = {name: getattr(self.params, name) for name in _FIXED if name not in self.plan.search}
        setting = {"search": search, "fixed parameters": fixed, "data": inputs}
        known = self._study.user_attrs.get("setting")
        if known is None:
            self._study.set_user_attr("setting", setting)
            return
        for what, value in setting.items():
            if known[what] != value:
                of = " and ".join(k for k in {**known[what], **value} if known[what].get(k) != value.get(k))
                raise KonerError(
                    f"{self.folder} holds trials with another {what} ({of}), which can't be compared with new ones; "
                    "give the study another name, or remove that folder"
                )

    def work(self, run: Run) -> None:
        """Runs trials until the plan's number is reached, those first whose process was killed."""
        with self._told_plainly():
            while (taken := self._take()) is not None:
                trial, lease = taken
                with lease:
                    self._try(trial, run)

    @contextmanager
    def _told_plainly(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            why = str(error.__cause__ or error).strip().partition("\n")[0]
            raise KonerError(f"{self.folder / 'trials.db'} can't be read or written as a study: {why}") from None

    def _take(self) -> tuple[Trial, AbstractContextManager[Any]] | None:
        with self._lock:
            self._free_the_killed()
            trials = self._study.get_trials(deepcopy=False)
            again = _begun_again(trials)
            begun = sum(t.number not in again and t.state is not TrialState.WAITING for t in trials)
            if begun >= self.plan.trials:
                return None
            seed = int(np.random.SeedSequence((self.plan.seed, begun)).generate_state(1)[0])
            self._study.sampler = optuna.samplers.TPESampler(n_startup_trials=self.plan.startup_trials, seed=seed)
            trial = self._study.ask(self.plan.search)
            return trial, self._lease(trial.number).acquire(timeout=0)

    def _free_the_killed(self) -> None:
        """Ends the running trials that no process has a lease on, and lines them up to be begun again."""
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state is not TrialState.RUNNING:
                continue
            try:
                with self._lease(trial.number).acquire(timeout=0):
                    attempt = trial.user_attrs.get(_ATTEMPT, 1)
                    if attempt < _ATTEMPTS and trial.number not in _begun_again(trials):
                        first = trial.user_attrs.get(_FIRST, trial.number)
                        notes = {_AGAIN: trial.number, _FIRST: first, _ATTEMPT: attempt + 1}
                        self._study.enqueue_trial(trial.params, notes)
                    self._study.tell(trial.number, state=TrialState.FAIL)
            except Timeout:
                continue

    def _lease(self, number: int) -> FileLock:
        return FileLock(self.folder / f"trial-{number}.lock")

    def _try(self, trial: Trial, run: Run) -> None:
        named = f"sweep: trial {trial.number}: {' '.join(map(_assigned, trial.params.items()))}"
        twin = next((t for t in self._trials(TrialState.COMPLETE) if t.params == trial.params), None)
        if twin is not None:
            print(f"{named}: F1 {twin.value:.4f}, as in trial {twin.number}", flush=True)
            self._study.tell(trial, twin.value)
            return
        print(named, flush=True)
        checkpoints = self.folder / f"trial-{trial.user_attrs.get(_FIRST, trial.number)}"
        try:
            f1 = run(self.params.model_copy(update=trial.params), checkpoints, EpochReports(trial))
        except optuna.TrialPruned as stopped:
            self._study.tell(trial, state=TrialState.PRUNED)
            print(f"sweep: trial {trial.number}: fell behind, ended after {stopped}", flush=True)
        except torch.OutOfMemoryError:
            self._study.tell(trial, state=TrialState.FAIL)
            torch.cuda.empty_cache()
            print(f"sweep: trial {trial.number}: failed: the GPU has too little memory for it", flush=True)
        except KeyboardInterrupt:
            # It wasn't the trial that ended the process.
            trial.set_user_attr(_ATTEMPT, 0)
            raise
        else:
            self._study.tell(trial, f1)
            print(f"sweep: trial {trial.number}: F1 {f1:.4f}", flush=True)
        shutil.rmtree(checkpoints, ignore_errors=True)

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))

    def result(self) -> SweepResult:
        """The best of the trials that ended; raises `KonerError` where none ran to its end."""
        complete = self._trials(TrialState.COMPLETE)
        if not complete:
            raise KonerError(f"{self.folder}: no trial has run to its end")
        best = max(complete, key=lambda trial: (trial.value, -trial.number))
        trials = self._study.get_trials(deepcopy=False)
        again = _begun_again(trials)
        names = {
            TrialState.COMPLETE: "ran to the end",
            TrialState.PRUNED: "ended early",
            TrialState.FAIL: "failed",
            TrialState.RUNNING: "still running",
        }
        states = [t.state for t in trials if t.number not in again]
        ended = {name: states.count(state) for state, name in names.items()}
        return SweepResult(best.number, dict(best.params), float(best.value or 0.0), ended)


def _begun_again(trials: Sequence[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[_AGAIN] for trial in trials if _AGAIN in trial.user_attrs}


def _assigned(item: tuple[str, Any]) -> str:
    return f"{item[0]}={item[1]}"
