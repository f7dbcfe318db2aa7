"""The parameters of pretraining: typed and checked as those of the pipeline are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from koner.params import PARAMS_FILE, check_params, read_yaml

Text = Annotated[str, Field(min_length=1)]


class PretrainParams(BaseModel):
    """The parameters, as `stages/pretrain/params.yaml` comments them; `description` says what each allows."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    texts: list[Text] = Field(min_length=1, description="a list of files, folders or hub datasets' ids, at least one")
    repeats: list[Annotated[int, Field(ge=1, le=1000)]] = Field(description="a list of whole numbers, one to a text")
    column: Text = Field(description="the name of a column of text")
    texts_revision: Text | None = Field(description="a revision of the hub datasets, or null")
    watch: Text = Field(description="a path that DVC hashes with the texts")
    base_model: Text = Field(description="'scratch', a folder, or a hub model's id")
    base_model_revision: Text | None = Field(description="a revision of the hub model, or null")
    vocab_size: int = Field(ge=6000, le=1_000_000, description="a whole number from 6000 to 1000000")
    vocab_min_characters: int = Field(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    layers: int = Field(ge=1, le=96, description="a whole number from 1 to 96")
    hidden_size: int = Field(ge=8, le=8192, description="a whole number from 8 to 8192")
    heads: int = Field(ge=1, le=128, description="a whole number from 1 to 128 that divides hidden_size")
    skipgram_epochs: int = Field(ge=0, le=100, description="a whole number from 0 (random embeddings) to 100")
    length: int = Field(ge=16, le=8192, description="a whole number of tokens from 16 to 8192")
    held_out: int = Field(ge=2, le=1_000_000, description="a whole number from 2 to 1000000: one text of so many")
    mask_share: float = Field(gt=0, lt=1, description="a number between 0 and 1")
    tag_weight: float = Field(ge=0, le=100, description="a number from 0 to 100")
    seed: int = Field(ge=0, lt=2**32, description="a whole number from 0 to 4294967295")
    lr: float = Field(gt=0, le=1, description="a number above 0, at most 1")
    batch_size: int = Field(ge=1, le=65536, description="a whole number from 1 to 65536")
    steps: int = Field(ge=1, le=100_000_000, description="a whole number from 1 to 100000000")
    warmup_steps: int = Field(ge=0, le=1_000_000, description="a whole number from 0 to 1000000")
    schedule: Literal["linear", "cosine", "trapezoid"] = Field(description="'linear', 'cosine' or 'trapezoid'")
    decay_steps: int = Field(ge=1, le=100_000_000, description="a whole number from 1 to 100000000")
    weight_decay: float = Field(ge=0, le=1, description="a number from 0 to 1")
    precision: Literal["auto", "bf16", "fp32"] = Field(description="'auto', 'bf16' or 'fp32'")
    evaluate_every: int = Field(ge=1, le=1_000_000, description="a whole number of steps from 1 to 1000000")

    @model_validator(mode="after")
    def _fit_together(self) -> PretrainParams:
        if len(self.repeats) != len(self.texts):
            raise ValueError(f"repeats: {len(self.repeats)} numbers are given for {len(self.texts)} texts")
        if self.hidden_size % self.heads:
            raise ValueError(f"heads: {self.heads} is not allowed: it must divide hidden_size, {self.hidden_size}")
        decay = self.decay_steps if self.schedule == "trapezoid" else 0
        if self.warmup_steps + decay > self.steps:
            with_decay = f" and decay_steps: {decay}" if decay else ""
            raise ValueError(f"warmup_steps: {self.warmup_steps}{with_decay} are more than the {self.steps} steps")
        return self


def load_pretrain_params(path: Path = PARAMS_FILE) -> PretrainParams:
    """Reads and checks the parameters; raises `KonerError` that names the key, its value and what is allowed."""
    return check_params(read_yaml(path), path, PretrainParams)
