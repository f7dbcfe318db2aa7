"""Search for better training parameters: `python -m stages.sweep [FILE]` (sweep.yaml), after `dvc repro split`.

The modules of training are imported on use: torch and transformers take seconds, in which a mistake would wait.
"""

from __future__ import annotations

import logging
import shutil
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dvc.exceptions import DvcException
from dvc.repo import Repo
from filelock import FileLock

from koner.corpus.label_files import read_labels
from koner.errors import INTERRUPTED, KonerError
from koner.params import Params, load_params
from koner.storage.workspace import lock_workspace
from koner.training.devices import lease_gpus
from stages import run_stage
from stages.train import BASE, LABELS, SPLIT

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from koner.training.dataset import WindowDataset

STUDIES = Path("sweeps")

_logger = logging.getLogger("stages.sweep")


def main() -> None:
    if len(sys.argv) > 2:
        raise KonerError("there is one argument at most, the file of the sweep")
    try:
        # Any number of workers search together.
        with lock_workspace(shared=True):
            run_sweep(Path(sys.argv[1] if len(sys.argv) == 2 else "sweep.yaml"))
    except KeyboardInterrupt:
        print("sweep: interrupted; the same command resumes it", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run_sweep(path: Path) -> None:
    # Imported on use: they need an extra.
    from koner.sweep.plan import load_plan
    from koner.sweep.study import Sweep

    params = load_params()
    plan = load_plan(path, params)
    folder = STUDIES / plan.study
    folder.mkdir(parents=True, exist_ok=True)
    # One worker at a time: DVC raises an error after a short wait if another process locks the project.
    with FileLock(folder / "check.lock"):
        check_inputs()
    sweep = Sweep(plan, params, [LABELS, BASE, SPLIT], folder)
    labels = read_labels(LABELS)

    @lru_cache(maxsize=1)
    def parts(augment: int) -> tuple[WindowDataset, WindowDataset, dict[str, int]]:
        from koner.training.dataset import read_parts

        return read_parts(params.model_copy(update={"augment": augment}), BASE, SPLIT, labels)

    def objective(trial_params: Params, checkpoints: Path, callback: TrainerCallback) -> float:
        from koner.training.fit import train

        training, development, _ = parts(trial_params.augment)
        # Only the F1 of a trial is kept; the command that is logged at the end trains the best model again.
        model = checkpoints.with_name(f"{checkpoints.name}-model")
        result = train(trial_params, BASE, labels, training, development, model, checkpoints, "trial", [callback])
        shutil.rmtree(model)
        return float(result.best["f1"])

    with lease_gpus("sweep"):
        sweep.run_trials(objective)
    result = sweep.result()
    counts = ", ".join(f"{count} {state}" for state, count in result.counts.items() if count)
    _logger.info(
        "sweep: %s; the best is trial %d, with F1 %.4f on development:\n%s",
        counts,
        result.number,
        result.f1,
        result.command,
    )


def check_inputs() -> None:
    """Check that the base model and the data are those that the pipeline would make now.

    Raises:
        KonerError: If they are missing or out of date.
    """
    try:
        with Repo() as repo:
            changed = repo.status(targets=["split"], with_deps=True)
    except DvcException as error:
        raise KonerError(f"DVC cannot check whether {BASE} and {SPLIT} are up to date: {error}") from None
    if changed:
        raise KonerError(f"{BASE} and {SPLIT} are missing or out of date ({', '.join(changed)}); run `dvc repro split`")


if __name__ == "__main__":
    run_stage(main, locks=False)
