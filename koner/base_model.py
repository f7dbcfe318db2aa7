"""The base model: made from scratch, or read once from a folder or the hub, and kept as one folder."""

from __future__ import annotations

from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from koner.corpus import Sentence
from koner.crossing import Edged, edged_words, without_crossing
from koner.encoding import most_tokens
from koner.errors import KonerError
from koner.outputs import whole_folder
from koner.params import Params
from koner.sources import assert_reachable, first_line, is_hub_id
from koner.unspelt import isolating_unspelt
from koner.vocabulary import build_vocabulary, make_tokenizer

SCRATCH, OWN = "scratch", "own"
# Ships with the project; its card, beside it, says what it was made from.
MINI = "koner-mini"
_MINI_FOLDER = Path(__file__).parent / "mini"
# Everything a model needs but other frameworks' weights.
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin"]
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")


def prepare_base_model(
    params: Params, training: Iterable[Sentence], folder: Path, edged: Set[Edged] | None = None
) -> list[str]:
    """Writes the base model's configuration, weights (safetensors) and tokenizer to `folder`.

    The training part, gone through several times, is what a tokenizer of our own is made from, and, by `drop_crossing`,
    what tells which pieces to take out of the vocabulary; these are given. `edged` are its `edged_words`, for a caller
    who has them. By `isolate_unspelt` the tokenizer sets characters apart that it can't spell. Raises `KonerError`
    where the model or tokenizer can't be found, reached or safely read, and leaves no folder behind.
    """
    with whole_folder(folder) as draft:
        if params.base_model == SCRATCH:
            tokenizer = _scratch_tokenizer(params, (sentence.text for sentence in training))
            model: PreTrainedModel = scratch_model(params, tokenizer)
        else:
            path = local_copy(params.base_model, params.base_model_revision)
            model, tokenizer = read_model(path), read_tokenizer(path, "base_model")
            assert_fits(model, tokenizer, params.max_length, "max_length", path)
            if hasattr(model, "pooler"):
                model.pooler = None
        model.save_pretrained(draft)
        if params.isolate_unspelt:
            tokenizer = _isolating(tokenizer)
        tokenizer.save_pretrained(draft)
        if not params.drop_crossing:
            return []
        kept, gone = without_crossing(tokenizer.backend_tokenizer, edged_words(training) if edged is None else edged)
        kept.save(str(draft / "tokenizer.json"))
        return gone


def _isolating(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    given = tokenizer.backend_tokenizer
    backend = isolating_unspelt(given)
    if backend is given:
        return tokenizer
    # Classes of a model family, such as BertTokenizer, would put their own way of cutting words in its place.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        **tokenizer.special_tokens_map,
    )


def scratch_model(params: Params, tokenizer: PreTrainedTokenizerBase) -> RobertaModel:
    """A RoBERTa encoder of the parameters' sizes with random weights, drawn as its paper does (normal, 0.02).

    Drawn by numpy: torch's generator gives other numbers on a CPU with other vector instructions, and the folder's
    hash has to be the same on every machine.
    """
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=params.layers,
        hidden_size=params.hidden_size,
        num_attention_heads=params.heads,
        intermediate_size=4 * params.hidden_size,
        # RoBERTa counts positions from the padding id + 1.
        max_position_embeddings=params.max_length + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = RobertaModel(config, add_pooling_layer=False)
    random = np.random.default_rng(params.seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                drawn = random.standard_normal(tuple(weight.shape), dtype=np.float32) * config.initializer_range
                weight.copy_(torch.from_numpy(drawn))
            else:
                weight.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        model.embeddings.word_embeddings.weight[config.pad_token_id] = 0.0
    return model


def _scratch_tokenizer(params: Params, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    if params.tokenizer == OWN:
        return make_tokenizer(build_vocabulary(texts, params.vocab_min_count), params.max_length)
    path = Path(params.tokenizer).expanduser()
    if not path.is_dir():
        raise KonerError(f"tokenizer: there is no folder {params.tokenizer}; give one, or 'own'")
    return read_tokenizer(path, "tokenizer")


def local_copy(name: str, revision: str | None) -> Path:
    """The folder of a base model: the one that ships, the one named, or a copy of the hub's at `revision`.

    Raises `KonerError` where there is no such folder, and no such model on the hub that could be fetched.
    """
    if name == MINI:
        return _MINI_FOLDER
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not is_hub_id(name):
        raise KonerError(f"base_model: there is no folder {name}, and it is not of the form of a hub model's id")
    assert_reachable(name, revision, "model")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise KonerError(f"base_model: {name} can't be fetched from the hub: {first_line(error)}") from None


def read_model(path: Path, family: Any = AutoModel) -> PreTrainedModel:
    """Reads a model from a folder in 32 bits, by transformers' auto class `family`; the pooler may be missing.

    Of other heads than the encoder those that the folder lacks get random weights, from torch's generator. Raises
    `KonerError` where the folder has no model of that family, lacks weights of the encoder, or can't be read safely.
    """
    if not (path / "config.json").is_file():
        raise KonerError(f"base_model: {path} has no config.json")
    if not any(path.glob("*.safetensors")) and not any(path.glob("pytorch_model*.bin")):
        raise KonerError(f"base_model: {path} has no weights (model.safetensors, or pytorch_model.bin)")
    try:
        # With no safetensors at hand transformers reads the pickle by torch.load(weights_only=True), which builds
        # tensors and nothing else; local_files_only keeps it from asking the hub for a converted copy.
        model, loaded = family.from_pretrained(
            path, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:
        raise KonerError(f"base_model: {path} can't be read safely as a model: {first_line(error)}") from None
    # transformers fills what is missing with random weights, and goes on.
    encoder = {name for name in model.base_model.state_dict() if not name.startswith("pooler.")}
    missing = sorted(encoder & {key.removeprefix(f"{model.base_model_prefix}.") for key in loaded["missing_keys"]})
    if missing:
        raise KonerError(f"base_model: the weights in {path} lack {len(missing)} of the model's, such as {missing[0]}")
    return model


def assert_fits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: int, parameter: str, path: Path
) -> None:
    """Raises `KonerError` where the model in `path` can't take `tokens` (the value of `parameter`) or its tokenizer."""
    most = most_tokens(model.config.to_dict())
    if tokens > most:
        raise KonerError(f"{parameter}: {tokens} is more than the {most} tokens that the base model in {path} can take")
    if len(tokenizer) > model.config.vocab_size:
        raise KonerError(
            f"base_model: the tokenizer in {path} has {len(tokenizer)} tokens and the model embeds only "
            f"{model.config.vocab_size}"
        )


def read_tokenizer(path: Path, parameter: str) -> PreTrainedTokenizerBase:
    """Reads a tokenizer from a folder; raises `KonerError` that names `parameter` where it can't be used."""
    # Without any of these transformers makes an empty tokenizer, and goes on.
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise KonerError(f"{parameter}: {path} holds no tokenizer (tokenizer.json or vocab.txt)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise KonerError(f"{parameter}: the tokenizer in {path} can't be read: {first_line(error)}") from None
    if not tokenizer.is_fast:
        raise KonerError(f"{parameter}: the tokenizer in {path} can't tell offsets: it is not a fast tokenizer")
    if tokenizer.pad_token is None:
        raise KonerError(f"{parameter}: the tokenizer in {path} has no padding token")
    return tokenizer
