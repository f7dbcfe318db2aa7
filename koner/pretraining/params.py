"""The parameters of pretraining, typed and checked like those of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from koner.params import PARAMS_FILE, Revision, Text, check_heads
from koner.validation import read_yaml, validate


class PretrainParams(BaseModel):
    """The table of parameters that `stages/pretrain/params.yaml` documents."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    texts: list[Text] = Field(min_length=1, description="a list of files, folders or hub datasets' ids, at least one")
    repeats: list[Annotated[int, Field(ge=1, le=1000)]] = Field(
        description="a list of whole numbers, one for each text"
    )
    column: Text = Field(description="the name of a column of text")
    texts_revision: Revision | None = Field(description="a revision of the hub datasets, or null")
    watch: Text = Field(description="a path that DVC hashes with the texts")
    base_model: Text = Field(description="'scratch', a folder, or a hub model's id")
    base_model_revision: Revision | None = Field(description="a revision of the hub model, or null")
    vocab_size: int = Field(ge=6000, le=1_000_000)
    vocab_min_characters: int = Field(ge=1, le=1_000_000)
    layers: int = Field(ge=1, le=96)
    hidden_size: int = Field(ge=8, le=8192)
    heads: int = Field(ge=1, le=128, description="that divides hidden_size")
    skipgram_epochs: int = Field(ge=0, le=100, description="(0: random embeddings)")
    length: int = Field(ge=16, le=8192, description="(tokens)")
    held_out: int = Field(ge=2, le=1_000_000, description="(one text in so many)")
    mask_share: float = Field(gt=0, lt=1)
    tag_weight: float = Field(ge=0, le=100)
    weak_weight: float = Field(ge=0, le=100)
    weak_teacher: bool
    seed: int = Field(ge=0, lt=2**32)
    lr: float = Field(gt=0, le=1)
    batch_size: int = Field(ge=1, le=65536)
    steps: int = Field(ge=1, le=100_000_000)
    warmup_steps: int = Field(ge=0, le=1_000_000)
    schedule: Literal["linear", "cosine", "trapezoid"]
    decay_steps: int = Field(ge=1, le=100_000_000)
    weight_decay: float = Field(ge=0, le=1)
    precision: Literal["auto", "bf16", "fp32"]
    evaluate_every: int = Field(ge=1, le=1_000_000, description="(steps)")

    @model_validator(mode="after")
    def _fit_together(self) -> PretrainParams:
        if len(self.repeats) != len(self.texts):
            raise ValueError(f"repeats: {len(self.repeats)} numbers for {len(self.texts)} texts; give one for each")
        check_heads(self.heads, self.hidden_size)
        decay = self.decay_steps if self.schedule == "trapezoid" else 0
        if self.warmup_steps + decay > self.steps:
            with_decay = f" and decay_steps: {decay}" if decay else ""
            raise ValueError(f"warmup_steps: {self.warmup_steps}{with_decay} are more than the {self.steps} steps")
        return self


def load_pretrain_params(path: Path = PARAMS_FILE) -> PretrainParams:
    """Load and check the parameters.

    Raises:
        KonerError: If a parameter is missing, unknown or not allowed; it names the key, the value and what is allowed.
    """
    return validate(read_yaml(path), path, PretrainParams)
