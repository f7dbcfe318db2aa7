"""The parameters of the pipeline, typed and validated, and the recipes that set all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from ruamel.yaml import YAML

from koner import resources
from koner.errors import KonerError
from koner.labels.label_set import why_not_a_label
from koner.validation import is_encoding, read_yaml, validate

PARAMS_FILE = Path("params.yaml")
RECIPES = ("sample", "klue", "consult")
# Values of `source`, `base_model` and `tokenizer` that are neither a path nor a repository on the hub.
SAMPLE, CONSULT = "sample", "consult"
SCRATCH, MINI, OWN = "scratch", "koner-mini", "own"
# The folders of the corpora that ship with the package, by their names in `source`.
INCLUDED_CORPORA = {SAMPLE: resources.SAMPLE_CORPUS, CONSULT: resources.CONSULT_CORPUS}

# What becomes of overlapping entities, and of tags that their scheme does not allow.
Overlaps = Literal["error", "outermost", "innermost"]
IllegalBio = Literal["error", "repair"]

# One line that can be the path of a file.
Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]*$")]


def _check_encoding(name: str) -> str:
    if not is_encoding(name):
        raise ValueError(
            f"encoding: {name!r:.60} is not allowed: it must be the name of a text encoding, such as utf-8 or cp949"
        )
    return name


Encoding = Annotated[Text, AfterValidator(_check_encoding)]

# A commit, branch or tag: the model card quotes it.
Revision = Annotated[str, Field(max_length=200, pattern=r"^\w[\w./+@-]*$")]


def _check_label(name: str) -> str:
    if reason := why_not_a_label(name):
        raise ValueError(f"the label {reason}")
    return name


Label = Annotated[str, AfterValidator(_check_label)]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


def check_heads(heads: int, hidden_size: int) -> None:
    """Raise ValueError if the attention heads do not divide the hidden size."""
    if hidden_size % heads:
        raise ValueError(f"heads: {heads} is not allowed: it must divide hidden_size, {hidden_size}")


class Params(BaseModel):
    """The table of parameters.

    The type and bounds of a field are the allowed values, from which `koner.validation.allowed_values` derives the
    sentence in messages; a `description` adds to it. The `title` is the meaning of the parameter in the model card; a
    parameter without one has no effect on the model, or may hold a path.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    recipe: Text = Field(description="the name of the recipe that the values started from")
    source: Text = Field(description="'sample', 'consult', a file, a folder, or a hub dataset's id")
    source_format: Text = Field(description="'auto', or the name of a format as `koner inspect --formats` lists them")
    source_config: Text = Field(description="the name of a dataset's configuration, such as 'ner'")
    source_revision: Revision | None = Field(description="a revision of the hub dataset, or null")
    labels: list[Label] | None = Field(
        min_length=1,
        description="null, or a list of labels without white space, '<', '>' and ':', such as [PS, LC]",
        title="labels that the corpus may have",
    )
    label_map: dict[Pattern, Label | None] | None = Field(
        min_length=1,
        description="null, or patterns of labels with the label that each gives, or null to drop them, such as "
        "{'PS_*': PS, '*': null}",
        title="patterns of labels in the source, and the label that each became; null: dropped",
    )
    encoding: Encoding = Field(description="of text files, such as 'utf-8' or 'cp949'")
    overlaps: Overlaps = Field(title="which of overlapping entities was kept")
    illegal_bio: IllegalBio = Field(title="whether illegal tags of the source were repaired")
    test_share: float = Field(
        gt=0,
        lt=1,
        description="(for a source without an evaluation part)",
        title="share of the sentences that became test, for a source without an evaluation part",
    )
    watch: Text = Field(description="a path that DVC hashes with the source")
    base_model: Text = Field(description="'koner-mini', 'scratch', a folder, or a hub model's id")
    base_model_revision: Revision | None = Field(description="a revision of the hub model, or null")
    tokenizer: Text = Field(description="'own', or the folder of a tokenizer (for base_model 'scratch')")
    vocab_min_count: int = Field(ge=1, le=1_000_000, title="occurrences that make a morpheme a token")
    layers: int = Field(ge=1, le=96, title="transformer layers")
    hidden_size: int = Field(ge=8, le=8192, title="size of the hidden states")
    heads: int = Field(ge=1, le=128, description="that divides hidden_size", title="attention heads")
    isolate_unspelt: bool = Field(title="whether characters outside the vocabulary were isolated as words of their own")
    drop_crossing: bool = Field(title="whether tokens that cross entity boundaries were removed from the vocabulary")
    max_length: int = Field(ge=8, le=8192, description="(tokens)", title="tokens per window")
    stride: int = Field(
        ge=0, le=4096, description="(tokens), below max_length - 2", title="tokens that neighbouring windows share"
    )
    protocol: Literal["holdout", "official"] = Field(title="the origin of the parts development and test")
    development_share: float = Field(gt=0, lt=1, title="share of the training sentences that become development")
    max_divergence: float = Field(gt=0, le=1, description="(bits)")
    augment: int = Field(ge=0, le=100, title="copies of each training sentence with other names and numbers")
    seed: int = Field(ge=0, lt=2**32, title="seed of the weights, the order of samples and the split")
    lr: float = Field(gt=0, le=1, title="maximum learning rate, with linear decay to 0")
    batch_size: int = Field(ge=1, le=65536, title="windows per step")
    epochs: int = Field(ge=1, le=100_000, title="maximum number of epochs")
    patience: int = Field(
        ge=0,
        le=100_000,
        description="(0: never stop early)",
        title="epochs without a better F1 before training stops; 0: never",
    )
    weight_decay: float = Field(ge=0, le=1, title="weight decay of AdamW")
    dropout: float = Field(ge=0, lt=1, title="dropout of hidden states and attention")
    warmup_share: float = Field(ge=0, lt=1, title="share of the steps with a rising learning rate")
    base_share: float = Field(ge=0, lt=1, title="share of the base model's weights in the trained ones (WiSE-FT)")
    precision: Literal["auto", "bf16", "fp32"] = Field(title="precision of the training")
    batching: Literal["packed", "padded"] = Field(title="how windows are combined into a batch")
    processes: int = Field(ge=1, le=1024)
    machines: int = Field(ge=1, le=1024)
    sharding: Literal["none", "fsdp"]
    legal: bool = Field(title="whether decoding is constrained to legal BIO sequences")
    serve_precision: Literal["auto", "int8", "fp32"]
    calibration_noise: float = Field(
        ge=0, lt=1, title="share of the tokens that are random when the temperature of the scores is fitted"
    )
    keep_checkpoints: int = Field(ge=1, le=1000)

    @model_validator(mode="after")
    def _check_combinations(self) -> Params:
        check_heads(self.heads, self.hidden_size)
        if self.stride >= self.max_length - 2:
            raise ValueError(
                f"stride: {self.stride} is not allowed: it must be below max_length - 2, {self.max_length - 2}"
            )
        world_size = self.processes * self.machines
        if self.batch_size % world_size:
            raise ValueError(
                f"batch_size: {self.batch_size} is not allowed: it must be a multiple of processes times machines, "
                f"{world_size}"
            )
        if self.sharding != "none" and world_size == 1:
            raise ValueError(f"sharding: '{self.sharding}' is not allowed: it needs more than one process")
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Return the parameters of a file.

    Raises:
        KonerError: If the file is not valid; the message names the key, its value and the allowed values.
    """
    return validate(read_yaml(path), path, Params)


def switch_recipe(name: str, path: Path = PARAMS_FILE) -> dict[str, tuple[Any, Any]]:
    """Write the values of a recipe into the parameters file and keep its comments.

    The file itself changes, so that later runs stay on the recipe and DVC shows the change.

    Returns:
        The old and the new value of each parameter that changed.

    Raises:
        KonerError: If there is no such recipe, or if the result would not be valid; then the file does not change.
    """
    if name not in RECIPES:
        raise KonerError(f"there is no recipe '{name}'; there are {', '.join(RECIPES)}")
    recipe_path = resources.RECIPES / f"{name}.yaml"
    current = read_yaml(path)
    if not isinstance(current, dict):
        raise KonerError(f"{path}: the top level must be `key: value` lines")
    validate({**current, "recipe": name, **read_yaml(recipe_path)}, path, Params)
    yaml = YAML()
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    # The round-trip reader keeps the spelling of the recipe's numbers and the comments of the file.
    document = yaml.load(path.read_text(encoding="utf-8"))
    values = {"recipe": name, **yaml.load(recipe_path.read_text(encoding="utf-8"))}
    changes = {key: (document.get(key), value) for key, value in values.items() if document.get(key) != value}
    for key, value in values.items():
        document[key] = value
    draft = path.with_suffix(".tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            yaml.dump(document, file)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise KonerError(f"{path} can't be written: {error.strerror}") from None
    return changes
