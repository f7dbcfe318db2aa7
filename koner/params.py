"""The parameters of the pipeline: typed, checked, and read so that `3e-05` is a number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from koner.errors import KonerError

PARAMS_FILE = Path("params.yaml")
RECIPES_FOLDER = Path(__file__).parent / "recipes"
RECIPES = ("sample", "klue")

Text = Annotated[str, Field(min_length=1)]


class Params(BaseModel):
    """The parameters, as `params.yaml` comments them; `description` says what each allows, for messages."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    recipe: Text = Field(description="the name of the recipe that the values started from")
    source: Text = Field(description="'sample', a folder, or a hub dataset's id")
    source_config: Text = Field(description="the name of a dataset's configuration, such as 'ner'")
    source_revision: Text | None = Field(description="a revision of the hub dataset, or null")
    watch: Text = Field(description="a path that DVC hashes with the source")
    base_model: Text = Field(description="'koner-mini', 'scratch', a folder, or a hub model's id")
    base_model_revision: Text | None = Field(description="a revision of the hub model, or null")
    tokenizer: Text = Field(description="'own', or the folder of a tokenizer (for base_model 'scratch')")
    vocab_min_count: int = Field(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    layers: int = Field(ge=1, le=96, description="a whole number from 1 to 96")
    hidden_size: int = Field(ge=8, le=8192, description="a whole number from 8 to 8192")
    heads: int = Field(ge=1, le=128, description="a whole number from 1 to 128 that divides hidden_size")
    isolate_unspelt: bool = Field(description="true or false")
    drop_crossing: bool = Field(description="true or false")
    max_length: int = Field(ge=8, le=8192, description="a whole number of tokens from 8 to 8192")
    stride: int = Field(ge=0, le=4096, description="a whole number of tokens below max_length - 2")
    boundaries: bool = Field(description="true or false")
    protocol: Literal["holdout", "official"] = Field(description="'holdout' or 'official'")
    development_share: float = Field(gt=0, lt=1, description="a number between 0 and 1")
    max_divergence: float = Field(gt=0, le=1, description="a number above 0, at most 1 (bits)")
    augment: int = Field(ge=0, le=100, description="a whole number from 0 to 100")
    seed: int = Field(ge=0, lt=2**32, description="a whole number from 0 to 4294967295")
    lr: float = Field(gt=0, le=1, description="a number above 0, at most 1")
    batch_size: int = Field(ge=1, le=65536, description="a whole number from 1 to 65536")
    epochs: int = Field(ge=1, le=100_000, description="a whole number from 1 to 100000")
    patience: int = Field(ge=0, le=100_000, description="a whole number from 0 (never stop early) to 100000")
    weight_decay: float = Field(ge=0, le=1, description="a number from 0 to 1")
    dropout: float = Field(ge=0, lt=1, description="a number from 0, below 1")
    warmup_share: float = Field(ge=0, lt=1, description="a number from 0, below 1")
    label_smoothing: float = Field(ge=0, lt=1, description="a number from 0, below 1")
    layer_decay: float = Field(gt=0, le=1, description="a number above 0, at most 1")
    precision: Literal["auto", "bf16", "fp32"] = Field(description="'auto', 'bf16' or 'fp32'")
    batching: Literal["packed", "padded"] = Field(description="'packed' or 'padded'")
    processes: int = Field(ge=1, le=1024, description="a whole number from 1 to 1024")
    machines: int = Field(ge=1, le=1024, description="a whole number from 1 to 1024")
    sharding: Literal["none", "fsdp"] = Field(description="'none' or 'fsdp'")
    legal: bool = Field(description="true or false")
    outside_bias: bool = Field(description="true or false")
    serve_precision: Literal["auto", "int8", "fp32"] = Field(description="'auto', 'int8' or 'fp32'")
    keep_checkpoints: int = Field(ge=1, le=1000, description="a whole number from 1 to 1000")

    @model_validator(mode="after")
    def _fit_together(self) -> Params:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads: {self.heads} is not allowed: it must divide hidden_size, {self.hidden_size}")
        if self.stride >= self.max_length - 2:
            raise ValueError(
                f"stride: {self.stride} is not allowed: it must be below max_length - 2, {self.max_length - 2}"
            )
        together = self.processes * self.machines
        if self.batch_size % together:
            raise ValueError(
                f"batch_size: {self.batch_size} is not allowed: it must be a multiple of processes times machines, "
                f"{together}"
            )
        if self.sharding != "none" and together == 1:
            raise ValueError(f"sharding: '{self.sharding}' is not allowed: it needs more than one process")
        return self


Checked = TypeVar("Checked", bound=BaseModel)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks the parameters; raises `KonerError` that names the key, its value and what is allowed.

    YAML 1.2 (ruamel), as DVC reads it: PyYAML's 1.1 takes the `3e-05` that DVC writes for a string.
    """
    return check_params(read_yaml(path), path, Params)


def check_params(values: Any, path: Path, schema: type[Checked]) -> Checked:
    """Checks values that came from `path`; raises `KonerError` with one sentence for the first fault.

    The description of each field of `schema` says what it allows.
    """
    if not isinstance(values, dict):
        raise KonerError(f"{path}: the top level must be `key: value` lines")
    for key in values:
        if not isinstance(key, str):
            raise KonerError(f"{path}: the key {key!r} is not a word; known are {', '.join(schema.model_fields)}")
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise KonerError(f"{path}: {_sentence(error, values, schema)}") from None


def _sentence(error: ValidationError, values: dict[str, Any], schema: type[BaseModel]) -> str:
    fault = error.errors(include_url=False)[0]
    if not fault["loc"]:
        return str(fault["msg"]).removeprefix("Value error, ")
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return f"{key}: {values[key]!r} is set, but there is no such key; known are {', '.join(schema.model_fields)}"
    allowed = schema.model_fields[key].description
    if fault["type"] == "missing":
        return f"{key} is missing; it must be {allowed}"
    return f"{key}: {values[key]!r} is not allowed; it must be {allowed}"


def read_yaml(path: Path) -> Any:
    """Reads a YAML 1.2 file as plain values; raises `KonerError` that names the line of a fault."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KonerError(f"{path} is missing; run from the root of the repository") from None
    except UnicodeDecodeError:
        raise KonerError(f"{path} is not UTF-8") from None
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise KonerError(f"{path}{line}: not valid YAML: {problem}") from None


def switch_recipe(name: str, path: Path = PARAMS_FILE) -> dict[str, tuple[Any, Any]]:
    """Writes a recipe's values into the parameters file, comments kept; gives what changed as (old, new).

    The file itself is rewritten, so that whatever runs afterwards stays on the recipe and DVC shows the change.
    Raises `KonerError` for an unknown recipe, and leaves the file as it was where the result would not be valid.
    """
    if name not in RECIPES:
        raise KonerError(f"there is no recipe '{name}'; there are {', '.join(RECIPES)}")
    yaml = YAML()
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    # Read to be written again: numbers keep the spelling of the recipe, the file its comments.
    recipe = yaml.load((RECIPES_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    if not isinstance(read_yaml(path), dict):
        raise KonerError(f"{path}: the top level must be `key: value` lines")
    document = yaml.load(path.read_text(encoding="utf-8"))
    new = {"recipe": name, **recipe}
    changed = {key: (document.get(key), value) for key, value in new.items() if document.get(key) != value}
    for key, value in new.items():
        document[key] = value
    check_params(dict(document), path, Params)
    draft = path.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    draft.replace(path)
    return changed
