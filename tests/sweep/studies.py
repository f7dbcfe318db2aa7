"""Studies for tests, without torch and transformers: processes that search in them start at once."""

import math
from pathlib import Path

from optuna.distributions import CategoricalDistribution, FloatDistribution

from koner.params import load_params
from koner.sweep.plan import SweepPlan
from koner.sweep.study import Sweep

SEARCH = {"lr": FloatDistribution(1e-5, 1e-2, log=True), "batch_size": CategoricalDistribution([2, 4, 8])}
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").model_copy(update={"epochs": 4, "lr": 1e-3})


def plan(trials=8, startup_trials=3, seed=1, search=SEARCH):
    return SweepPlan("s", trials, startup_trials, 0, seed, search)


def sweep(folder, params=PARAMS, **changes):
    data = folder.parent / "data"
    data.mkdir(exist_ok=True)
    (data / "a").write_text("1")
    return Sweep(plan(**changes), params, [data], folder)


def score(params):
    """Return a score in place of training: best at a learning rate of 1e-3 and the largest batch."""
    return 1 / (1 + abs(math.log10(params.lr * 1e3))) * params.batch_size / 8
