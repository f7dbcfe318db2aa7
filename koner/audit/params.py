"""The parameters of the audit, typed and checked like those of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from koner.params import PARAMS_FILE
from koner.validation import read_yaml, validate

_FOLDS = "a list of different whole numbers from 1 to 1000, at least two, such as [1, 2]"


class AuditParams(BaseModel):
    """The table of parameters that `stages/audit/params.yaml` documents."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    folds: list[Annotated[int, Field(ge=1, le=1000)]] = Field(min_length=2, description=_FOLDS)
    shown: int = Field(ge=1, le=1_000_000)

    @field_validator("folds")
    @classmethod
    def _check_different(cls, folds: list[int]) -> list[int]:
        if len(set(folds)) < len(folds):
            raise ValueError("a fold is there twice")
        return folds


def load_audit_params(path: Path = PARAMS_FILE) -> AuditParams:
    """Load and check the parameters.

    Raises:
        KonerError: If a parameter is missing, unknown or not allowed; it names the key, the value and what is allowed.
    """
    return validate(read_yaml(path), path, AuditParams)
