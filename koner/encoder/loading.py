"""Loading of models and tokenizers from folders and the hub, with checks that transformers leaves out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from koner.errors import KonerError, first_line
from koner.labels.label_set import LabelSet
from koner.params import MINI
from koner.resources import KONER_MINI
from koner.storage.hub import check_reachable, is_hub_id
from koner.storage.paths import local_path
from koner.tokens.windows import max_window_length

# All files of a model except the weights of other frameworks.
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin"]
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")


def resolve_model_folder(name: str, revision: str | None) -> Path:
    """Return the folder of a base model: that of koner-mini, an existing folder, or a copy of a model on the hub.

    Args:
        name: 'koner-mini', a folder, or the id of a model on the hub.
        revision: The revision of a model on the hub; None for the newest.

    Raises:
        KonerError: If there is no such folder, and no such model on the hub that can be downloaded.
    """
    if name == MINI:
        return KONER_MINI
    path = local_path(name)
    if os.path.isdir(path):
        return path
    if not is_hub_id(name):
        raise KonerError(f"base_model: there is no folder {name}, and it does not have the form of a hub model's id")
    check_reachable(name, revision, "model")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise KonerError(f"base_model: {name} can't be downloaded from the hub: {first_line(error)}") from None


def load_model(path: Path, auto_class: Any = AutoModel) -> PreTrainedModel:
    """Load a model from a folder in 32 bits.

    Args:
        path: The folder.
        auto_class: The auto class of transformers to load it with. If the folder lacks weights of its head (or of the
            pooler), they are random, drawn by torch's generator.

    Raises:
        KonerError: If the folder has no model of this class, lacks weights of the encoder, or can't be read safely.
    """
    if not (path / "config.json").is_file():
        raise KonerError(f"base_model: {path} has no config.json")
    if not any(path.glob("*.safetensors")) and not any(path.glob("pytorch_model*.bin")):
        raise KonerError(f"base_model: {path} has no weights (model.safetensors or pytorch_model.bin)")
    try:
        # If there is no safetensors file, transformers reads the pickle by torch.load(weights_only=True), which builds
        # nothing but tensors; local_files_only keeps it from asking the hub for a converted copy.
        model, info = auto_class.from_pretrained(
            path, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:
        raise KonerError(f"base_model: {path} can't be read safely as a model: {first_line(error)}") from None
    # transformers fills missing weights with random numbers and raises no error.
    encoder = {name for name in model.base_model.state_dict() if not name.startswith("pooler.")}
    missing = sorted(encoder & {key.removeprefix(f"{model.base_model_prefix}.") for key in info["missing_keys"]})
    if missing:
        raise KonerError(f"base_model: the weights in {path} lack {len(missing)} of the model's, such as {missing[0]}")
    return model


def has_label_head(path: Path, labels: LabelSet) -> bool:
    """Return whether the model in a folder has a head over the tags of a label set, in their order.

    Pretraining on weak labels writes such a head beside the encoder. Its configuration names the tags.
    """
    try:
        id2label = json.loads((path / "config.json").read_text(encoding="utf-8"))["id2label"]
    except (OSError, ValueError, KeyError, TypeError):
        # Loading the model reports what is wrong.
        return False
    return bool(id2label == {str(i): tag for i, tag in labels.id_to_tag.items()})


def load_tokenizer(path: Path, parameter: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder.

    Args:
        path: The folder.
        parameter: The name of the parameter that gave the folder, for error messages.

    Raises:
        KonerError: If the folder has no tokenizer, or one that can't be read, is not fast or has no padding token.
    """
    # Without any of these files transformers creates an empty tokenizer and raises no error.
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise KonerError(f"{parameter}: {path} has no tokenizer (tokenizer.json or vocab.txt)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise KonerError(f"{parameter}: the tokenizer in {path} can't be read: {first_line(error)}") from None
    if not tokenizer.is_fast:
        raise KonerError(f"{parameter}: the tokenizer in {path} does not report offsets: it is not a fast tokenizer")
    if tokenizer.pad_token is None:
        raise KonerError(f"{parameter}: the tokenizer in {path} has no padding token")
    return tokenizer


def check_fits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: int, parameter: str, path: Path
) -> None:
    """Check that a model accepts windows of a length, and all tokens of its tokenizer.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        tokens: The length of a window, in tokens.
        parameter: The name of the parameter that gave this length, for error messages.
        path: The folder of both, for error messages.

    Raises:
        KonerError: If the model does not accept them.
    """
    longest = max_window_length(model.config.to_dict())
    if tokens > longest:
        raise KonerError(
            f"{parameter}: {tokens} is more than the {longest} tokens that the base model in {path} accepts"
        )
    if len(tokenizer) > model.config.vocab_size:
        raise KonerError(
            f"base_model: the tokenizer in {path} has {len(tokenizer)} tokens and the model embeds only "
            f"{model.config.vocab_size}"
        )
