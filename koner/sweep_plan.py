"""What a sweep tries: its file, checked against the parameters, as Optuna's distributions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koner.errors import KonerError
from koner.params import Params, check_params, read_yaml

PLAN_FILE = Path("sweep.yaml")
# What the stage train takes and no stage before it: the base model and the data stay as they are.
SWEEPABLE = (
    "augment",
    "lr",
    "batch_size",
    "batching",
    "epochs",
    "patience",
    "weight_decay",
    "dropout",
    "warmup_share",
    "label_smoothing",
    "layer_decay",
    "precision",
)
_RANGE, _CHOICES = {"low", "high", "log", "step"}, {"choices"}
_NUMBERS = {int: "whole numbers", float: "numbers"}


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = Field(
        description="a name of ASCII letters, digits, - and _"
    )
    trials: int = Field(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    startup_trials: int = Field(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    warmup_epochs: int = Field(ge=0, le=100_000, description="a whole number from 0 to 100000")
    seed: int = Field(ge=0, lt=2**32, description="a whole number from 0 to 4294967295")
    search: dict[str, Any] = Field(min_length=1, description="parameters of the stage train, each with what to try")


@dataclass(frozen=True)
class SweepPlan:
    """A sweep: how many trials, how many of them at random first, and by parameter what is drawn from.

    No trial is stopped before `warmup_epochs`, nor before `startup_trials` have ended.
    """

    study: str
    trials: int
    startup_trials: int
    warmup_epochs: int
    seed: int
    search: dict[str, BaseDistribution]


def load_plan(path: Path, params: Params) -> SweepPlan:
    """Reads a sweep over `params` and checks it; raises `KonerError` that names file, field and what is allowed."""
    values = read_yaml(path)
    file = check_params(values, path, _File)
    search = {name: _distribution(f"{path}: search.{name}", name, spec, params) for name, spec in file.search.items()}
    return SweepPlan(file.study, file.trials, file.startup_trials, file.warmup_epochs, file.seed, search)


def _distribution(where: str, name: str, spec: Any, params: Params) -> BaseDistribution:
    if name not in SWEEPABLE:
        why = (
            "there is no such parameter"
            if name not in Params.model_fields
            else "a sweep trains on the base model and the data that are there, and changes only how"
        )
        raise KonerError(f"{where}: {why}; it can be one of {', '.join(SWEEPABLE)}")
    keys = set(spec) if isinstance(spec, dict) else set()
    if keys == _CHOICES:
        return CategoricalDistribution(_choices(f"{where}.choices", name, spec["choices"], params))
    kind: Any = Params.model_fields[name].annotation
    if kind not in _NUMBERS:
        raise KonerError(f"{where}: it must be {{choices: [...]}}")
    if not {"low", "high"} <= keys <= _RANGE:
        form = "{low: ..., high: ...}, with log: true or step: ... if need be, or {choices: [...]}"
        raise KonerError(f"{where}: it must be {form}")
    low, high = (_allowed(f"{where}.{key}", name, spec[key], params) for key in ("low", "high"))
    return _range(where, kind, low, high, spec)


def _choices(where: str, name: str, choices: Any, params: Params) -> list[Any]:
    if not isinstance(choices, list) or not choices:
        raise KonerError(f"{where}: {choices!r} is not allowed; it must be a list of at least one value")
    values = [_allowed(where, name, choice, params) for choice in choices]
    if len(set(values)) < len(values):
        raise KonerError(f"{where}: a value is given twice")
    return values


def _range(where: str, kind: Any, low: Any, high: Any, spec: dict[str, Any]) -> BaseDistribution:
    if low > high:
        raise KonerError(f"{where}: low, {low}, is above high, {high}")
    log = spec.get("log", False)
    if not isinstance(log, bool):
        raise KonerError(f"{where}.log: {log!r} is not allowed; it must be true or false")
    if log and not low > 0:
        raise KonerError(f"{where}.log: low must be above 0 for it")
    step: Any = spec.get("step")
    if step is None:
        return IntDistribution(low, high, log=log) if kind is int else FloatDistribution(low, high, log=log)
    if log:
        raise KonerError(f"{where}: log and step can't be had together")
    if isinstance(step, bool) or not isinstance(step, (int, kind)) or not step > 0:
        raise KonerError(f"{where}.step: {step!r} is not allowed; it must be above 0, in {_NUMBERS[kind]}")
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-9:
        raise KonerError(f"{where}.step: {step} doesn't lead from {low} to {high} in whole steps")
    return IntDistribution(low, high, step=step) if kind is int else FloatDistribution(low, high, step=step)


def _allowed(where: str, name: str, value: Any, params: Params) -> Any:
    """A value as the parameter's own type."""
    try:
        return getattr(Params.model_validate({**params.model_dump(), name: value}), name)
    except ValidationError:
        allowed = Params.model_fields[name].description
        raise KonerError(f"{where}: {value!r} is not allowed; it must be {allowed}") from None
