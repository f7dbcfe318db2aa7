"""The plan of a sweep: its YAML file, checked against the parameters, as Optuna's distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koner.errors import KonerError
from koner.params import Params
from koner.validation import allowed_values, read_yaml, short_repr, validate

PLAN_FILE = Path("sweep.yaml")
# The parameters of the stage train that no earlier stage reads, since all trials share the base model and the data.
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
    "base_share",
    "precision",
)
_RANGE_KEYS, _CHOICES_KEYS = {"low", "high", "log", "step"}, {"choices"}
_NUMBER_NAMES = {int: "whole numbers", float: "numbers"}
_STEP_TOLERANCE = 1e-9


class _PlanFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)] = Field(
        description="a name of ASCII letters, digits, - and _"
    )
    trials: int = Field(ge=1, le=1_000_000)
    startup_trials: int = Field(ge=1, le=1_000_000)
    warmup_epochs: int = Field(ge=0, le=100_000)
    seed: int = Field(ge=0, lt=2**32)
    search: dict[str, Any] = Field(
        min_length=1, description="parameters of the stage train, each with a range or a list of choices"
    )


@dataclass(frozen=True)
class SweepPlan:
    """A plan of a sweep.

    Attributes:
        study: The name of the study.
        trials: The number of trials.
        startup_trials: The number of random trials at the start; none is pruned before as many have ended.
        warmup_epochs: The number of epochs within which no trial is pruned.
        seed: The seed of the trials.
        search: The distribution of each parameter that is searched.
    """

    study: str
    trials: int
    startup_trials: int
    warmup_epochs: int
    seed: int
    search: dict[str, BaseDistribution]


def load_plan(path: Path, params: Params) -> SweepPlan:
    """Return the plan in a YAML file.

    Args:
        path: The file.
        params: The parameters whose values the plan varies.

    Raises:
        KonerError: If the file is not a valid plan; the message names the file, the field and the allowed values.
    """
    plan = validate(read_yaml(path), path, _PlanFile)
    search = {name: _distribution(f"{path}: search.{name}", name, spec, params) for name, spec in plan.search.items()}
    return SweepPlan(plan.study, plan.trials, plan.startup_trials, plan.warmup_epochs, plan.seed, search)


def _distribution(field: str, name: str, spec: Any, params: Params) -> BaseDistribution:
    if name not in SWEEPABLE:
        reason = (
            "there is no such parameter"
            if name not in Params.model_fields
            else "all trials of a sweep share the base model and the data"
        )
        raise KonerError(f"{field}: {reason}; it can be one of {', '.join(SWEEPABLE)}")
    keys = set(spec) if isinstance(spec, dict) else set()
    if keys == _CHOICES_KEYS:
        return CategoricalDistribution(_choices(f"{field}.choices", name, spec["choices"], params))
    type_: Any = Params.model_fields[name].annotation
    if type_ not in _NUMBER_NAMES:
        raise KonerError(f"{field}: it must be {{choices: [...]}}")
    if not {"low", "high"} <= keys <= _RANGE_KEYS:
        form = "{low: ..., high: ...}, with log: true or step: ... if needed, or {choices: [...]}"
        raise KonerError(f"{field}: it must be {form}")
    low, high = (_parameter_value(f"{field}.{key}", name, spec[key], params) for key in ("low", "high"))
    return _range(field, type_, low, high, spec)


def _choices(field: str, name: str, choices: Any, params: Params) -> list[Any]:
    if not isinstance(choices, list) or not choices:
        raise KonerError(f"{field}: {short_repr(choices)} is not allowed; it must be a list of at least one value")
    values = [_parameter_value(field, name, choice, params) for choice in choices]
    if len(set(values)) < len(values):
        raise KonerError(f"{field}: a value is listed twice")
    return values


def _range(field: str, type_: Any, low: Any, high: Any, spec: dict[str, Any]) -> BaseDistribution:
    if low > high:
        raise KonerError(f"{field}: low, {low}, is above high, {high}")
    log = spec.get("log", False)
    if not isinstance(log, bool):
        raise KonerError(f"{field}.log: {short_repr(log)} is not allowed; it must be true or false")
    if log and not low > 0:
        raise KonerError(f"{field}.log: low must be above 0 for a logarithmic range")
    distribution = IntDistribution if type_ is int else FloatDistribution
    step: Any = spec.get("step")
    if step is None:
        return distribution(low, high, log=log)
    if log:
        raise KonerError(f"{field}: log and step can't be combined")
    if isinstance(step, bool) or not isinstance(step, (int, type_)) or not 0 < step < math.inf:
        raise KonerError(
            f"{field}.step: {short_repr(step)} is not allowed; it must be above 0, in {_NUMBER_NAMES[type_]}"
        )
    steps = (high - low) / step if step <= high - low else math.inf
    if not math.isfinite(steps) or abs(steps - round(steps)) > _STEP_TOLERANCE:
        raise KonerError(f"{field}.step: {short_repr(step)} does not divide the range from {low} to {high} evenly")
    return distribution(low, high, step=step)


def _parameter_value(field: str, name: str, value: Any, params: Params) -> Any:
    """Return a value converted to the type of the parameter."""
    try:
        return getattr(Params.model_validate({**params.model_dump(), name: value}), name)
    except ValidationError:
        allowed = allowed_values(Params.model_fields[name])
        raise KonerError(f"{field}: {short_repr(value)} is not allowed; it must be {allowed}") from None
