"""Searches for better training parameters: `python -m stages.sweep [FILE]` (sweep.yaml), after `dvc repro split`."""

import shutil
import sys
from functools import lru_cache
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from filelock import FileLock
from transformers import TrainerCallback

from koner.devices import leased_gpus
from koner.errors import KonerError, told_plainly
from koner.params import Params, load_params
from koner.training import train
from koner.windows import WindowDataset, read_parts
from stages.train import BASE, SPLIT

STUDIES = Path("sweeps")
# What a shell gives for a command that Ctrl-C ended: 128 and the signal's number.
INTERRUPTED = 130


def main(path: Path) -> None:
    try:
        from koner.sweep import Sweep
        from koner.sweep_plan import load_plan
    except ModuleNotFoundError as error:
        raise KonerError(f"{error.name} is not installed; pip install 'koner[sweep]'") from None
    params = load_params()
    plan = load_plan(path, params)
    folder = STUDIES / plan.study
    folder.mkdir(parents=True, exist_ok=True)
    # One worker at a time: DVC soon gives up on a project that is locked.
    with FileLock(folder / "check.lock"):
        check_inputs()
    sweep = Sweep(plan, params, [BASE, SPLIT], folder)

    @lru_cache(maxsize=1)
    def parts(augment: int) -> tuple[WindowDataset, WindowDataset, dict[str, int]]:
        return read_parts(params.model_copy(update={"augment": augment}), BASE, SPLIT)

    def run(changed: Params, checkpoints: Path, reports: TrainerCallback) -> float:
        training, development, _ = parts(changed.augment)
        # What a trial finds out is its F1; the model is made again by the command that is printed.
        model = checkpoints.with_name(f"{checkpoints.name}-model")
        trained = train(changed, BASE, training, development, model, checkpoints, "trial", [reports])
        shutil.rmtree(model)
        return float(trained.best["f1"])

    with leased_gpus("sweep"):
        sweep.work(run)
    result = sweep.result()
    ended = ", ".join(f"{count} {how}" for how, count in result.ended.items() if count)
    print(f"sweep: {ended}; the best is trial {result.number}, with F1 {result.f1:.4f} on development:")
    print(result.command, flush=True)


def check_inputs() -> None:
    """Raises `KonerError` where the base model and the data aren't what the pipeline would make now."""
    try:
        with Repo() as repo:
            changed = repo.status(targets=["split"], with_deps=True)
    except DvcException as error:
        raise KonerError(f"DVC can't tell whether {BASE} and {SPLIT} are up to date: {error}") from None
    if changed:
        raise KonerError(f"{BASE} and {SPLIT} are missing or out of date ({', '.join(changed)}); run `dvc repro split`")


if __name__ == "__main__":
    with told_plainly():
        if len(sys.argv) > 2:
            raise KonerError("there is one argument at most, the file of the sweep")
        try:
            main(Path(sys.argv[1] if len(sys.argv) == 2 else "sweep.yaml"))
        except KeyboardInterrupt:
            print("sweep: interrupted; the same command goes on", file=sys.stderr)
            sys.exit(INTERRUPTED)
