"""The files of a model folder other than its weights, read with bounds and checked: a folder may come from anybody."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from koner.errors import KonerError, first_line
from koner.inference.decoding import DecodingSettings
from koner.labels.bio import OUTSIDE, tag_type
from koner.labels.label_set import why_not_a_tag
from koner.tokens.windows import max_window_length
from koner.validation import check_regular, read_file, validate

CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE = "config.json", "tokenizer.json", "tokenizer_config.json"
# The prefix of the keys that koner adds to a model's config.json.
CONFIG_PREFIX = "koner_"
_WEIGHTS_FILE, _INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_ADAPTER_FILE = "adapter_config.json"
# In bytes. The largest of public models have 1.5 MB and 35 MB.
_LARGEST_JSON = 8 * 2**20
_LARGEST_TOKENIZER = 128 * 2**20
_MOST_IDS = 2**31 - 1
_LONGEST_QUOTE = 40  # code points


class ModelConfig(BaseModel):
    """The fields of config.json that the tagger reads."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, protected_namespaces=())

    model_type: str = Field(description="the name of an architecture")
    id2label: dict[str, str] = Field(description='an object of labels by number, such as {"0": "B-PS", "1": "I-PS"}')
    max_position_embeddings: int | None = Field(default=None, ge=-1, le=_MOST_IDS)
    pad_token_id: int | None = Field(default=None, ge=0, le=_MOST_IDS)
    vocab_size: int | None = Field(default=None, ge=1, le=_MOST_IDS)
    koner_temperature: float = Field(default=1.0, ge=0.01, le=100, allow_inf_nan=False)
    koner_legal: bool = True

    @property
    def settings(self) -> DecodingSettings:
        """The settings of decoding."""
        return DecodingSettings(self.koner_temperature, self.koner_legal)

    @property
    def token_labels(self) -> list[str]:
        """The label of each label id."""
        return [self.id2label[str(i)] for i in range(len(self.id2label))]


class _TokenizerConfig(BaseModel):
    """The field of tokenizer_config.json that the tagger reads."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())

    # transformers writes 1e30 if there is no limit.
    model_max_length: float | None = Field(default=None, ge=1, le=1e31, allow_inf_nan=False)


def read_config(folder: Path) -> ModelConfig:
    """Read and check a model's config.json.

    Raises:
        KonerError: If the folder has no such file, or a field is missing or not valid.
    """
    path = folder / CONFIG_FILE
    values = read_json(path)
    if values is None:
        raise KonerError(f"{folder} holds no model; run `dvc repro` or `dvc pull`")
    config = validate(values, path, ModelConfig)
    if outside_bias := values.get(f"{CONFIG_PREFIX}outside_bias"):
        # Without the bias, the same weights predict other entities than those the metrics were measured on.
        raise KonerError(
            f"{path}: {CONFIG_PREFIX}outside_bias is {str(outside_bias)[:40]}, and this version of koner applies no "
            "bias on O; serve the model with the commit that made this model, or run `dvc repro`"
        )
    _check_labels(config.id2label, f"{path}: id2label")
    if "roberta" in config.model_type and config.pad_token_id is None:
        raise KonerError(f"{path}: pad_token_id is missing; the positions of {config.model_type} start after it")
    return config


def _check_labels(labels: dict[str, str], field: str) -> None:
    numbers = set(map(str, range(len(labels))))
    if not labels or set(labels) != numbers:
        raise KonerError(f"{field} must number the labels from 0 without gaps")
    names = list(labels.values())
    for name in names:
        if reason := why_not_a_tag(name):
            raise KonerError(f"{field}: the model's label {name[:_LONGEST_QUOTE]!r} {reason}")
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise KonerError(f"{field} has the label '{repeated}' more than once")
    begins = {f"B-{tag_type(name)}" for name in names if name != OUTSIDE}
    if missing := sorted({OUTSIDE, *begins} - set(names)):
        raise KonerError(f"{field} lacks the label '{missing[0]}', so its labels are not BIO")
    if not begins:
        raise KonerError(f"{field} has no type of entities")


def read_max_length(folder: Path, config: ModelConfig) -> int:
    """Return the length of the longest window that a model and its tokenizer allow, in tokens.

    Raises:
        KonerError: If tokenizer_config.json is not valid.
    """
    path = folder / TOKENIZER_CONFIG_FILE
    values = read_json(path)
    limit = None if values is None else validate(values, path, _TokenizerConfig).model_max_length
    return min(int(limit or sys.maxsize), max_window_length(config.model_dump()))


def read_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """Read a model's tokenizer, and check that the model embeds all its tokens.

    Raises:
        KonerError: If the folder has none, or if it cannot be read or does not belong to the model.
    """
    path = folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_buffer(read_file(path, _LARGEST_TOKENIZER))
    except KonerError:
        raise
    except FileNotFoundError:
        tokenizer = _convert_tokenizer(folder)
    except OSError as error:
        raise KonerError(f"{path} can't be read: {error.strerror}") from None
    except Exception as error:  # tokenizers raises nothing narrower
        raise KonerError(f"{path} can't be read as a tokenizer: {first_line(error)}") from None
    number = highest_id(tokenizer)
    if config.vocab_size is not None and number >= config.vocab_size:
        raise KonerError(
            f"{path} has a token of number {number}, and the model embeds only {config.vocab_size} tokens "
            f"(vocab_size in {CONFIG_FILE}): it is the tokenizer of another model"
        )
    return tokenizer


def highest_id(tokenizer: Tokenizer) -> int:
    """Return the highest number of a token."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)


def _convert_tokenizer(folder: Path) -> Tokenizer:
    """Read the vocabulary of an older model, which has no tokenizer.json."""
    for path in folder.iterdir():
        if path.suffix in (".txt", ".json", ".model"):
            read_file(path, _LARGEST_TOKENIZER)
    # Imported on use because it is slow.
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        backend: Tokenizer = tokenizer.backend_tokenizer
        return backend
    except Exception as error:
        raise KonerError(
            f"{folder} has no {TOKENIZER_FILE}, and no other vocabulary that can be read: {first_line(error)}"
        ) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no such file.

    Raises:
        KonerError: If the file cannot be read, has more than 8 MiB or holds no object.
    """
    try:
        values = json.loads(read_file(path, _LARGEST_JSON).decode("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KonerError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise KonerError(f"{path} can't be read as JSON: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise KonerError(f"{path} holds no JSON object")
    return values


def check_weights(folder: Path) -> None:
    """Check that the weights which transformers reads are safetensors files in the folder.

    A pickle can execute any code when it is read. config.json, an index of weights and the configuration of an adapter
    can name one, or a file elsewhere.

    Raises:
        KonerError: If they are not.
    """
    if "transformers_weights" in (read_json(folder / CONFIG_FILE) or {}):
        raise KonerError(f"{folder / CONFIG_FILE}: transformers_weights is set; only {_WEIGHTS_FILE} is read")
    if (folder / _ADAPTER_FILE).exists():
        raise KonerError(f"{folder / _ADAPTER_FILE}: adapters are not supported; merge the adapter into the model")
    index_path = folder / _INDEX_FILE
    index = None if os.path.lexists(folder / _WEIGHTS_FILE) else read_json(index_path)
    names = [_WEIGHTS_FILE]
    if index is not None:
        weight_map = index.get("weight_map")
        names = list(weight_map.values()) if isinstance(weight_map, dict) else [""]
    elif not os.path.lexists(folder / _WEIGHTS_FILE):
        raise KonerError(f"{folder} can't be read as a model: it has no {_WEIGHTS_FILE}")
    for name in names:
        if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name:
            raise KonerError(
                f"{index_path}: weight_map must name safetensors files in the folder, not {str(name)[:40]!r}"
            )
        check_file(folder / name)


def check_file(path: Path) -> None:
    """Check that a file is a regular file.

    Raises:
        KonerError: If it is not, or does not exist.
    """
    try:
        check_regular(path, path)
    except OSError as error:
        raise KonerError(f"{path} can't be read: {error.strerror}") from None
