"""A model with random weights in the shape of klue/roberta-base, to measure speed and memory, but no accuracy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from koner.corpus.sentences import Sentence
from koner.encoder.scratch import roberta_config
from koner.encoder.vocabulary import build_vocabulary, make_tokenizer
from koner.errors import KonerError
from koner.export.exporter import export
from koner.labels.bio import OUTSIDE
from koner.labels.klue import KLUE
from koner.release.hashing import folder_hash
from koner.tokens.alignment import align

_MAX_LENGTH = 512  # tokens
_STRIDE = _MAX_LENGTH // 4
_VOCABULARY_SIZE = 32_000
_BIAS_SENTENCES = 64  # sentences to which the bias on O is fitted


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that set the shape of the model."""
    parser.add_argument(
        "--config", type=Path, help="folder of a config.json and a tokenizer (default: klue/roberta-base's shape)"
    )
    parser.add_argument("--layers", type=int, help="number of layers (default: the configuration's)")


def write_model(folder: Path, config: Path | None, layers: int | None, train: Sequence[Sentence]) -> None:
    """Write a token classifier with random weights, and its tokenizer, in the format of transformers.

    Args:
        folder: The folder to write.
        config: A folder with a config.json and a tokenizer; None for klue/roberta-base's shape and a tokenizer that is
            built from the training sentences.
        layers: The number of layers; None for that of the configuration.
        train: The training sentences.
    """
    model_config, tokenizer = _read_config(config) if config else _klue_roberta_base(train)
    if layers:
        model_config.num_hidden_layers = layers
    model_config.id2label, model_config.label2id = dict(KLUE.id_to_tag), dict(KLUE.tag_to_id)
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(model_config).eval()
    _fit_outside_bias(model, tokenizer, train[:_BIAS_SENTENCES])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare_service_folder(folder: Path, model: Path, train: Sequence[Sentence], arguments: argparse.Namespace) -> None:
    """Prepare a folder in which `python -m app` can start: an exported random model, and the dvc.lock that pins it.

    Args:
        folder: The folder to prepare. A model that it holds already is kept.
        model: The path of the model within the folder.
        train: The training sentences.
        arguments: The options of `add_options`, and `serve_precision`.
    """
    if (folder / model).is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as temporary:
        trained = Path(temporary) / "trained"
        write_model(trained, arguments.config, arguments.layers, train)
        tokenizer = AutoTokenizer.from_pretrained(trained, local_files_only=True)
        development = align(train[:_BIAS_SENTENCES], tokenizer, _MAX_LENGTH, _STRIDE, KLUE)
        export(trained, {"development": development}, development, folder / model, arguments.serve_precision)
    pin_model(folder, model)


def pin_model(folder: Path, model: Path) -> None:
    """Write a dvc.lock that pins a model, so that `python -m app` serves it.

    Args:
        folder: The folder of the service.
        model: The path of the model within the folder.
    """
    outs = [{"path": model.as_posix(), "hash": "md5", "md5": folder_hash(folder / model)}]
    # JSON is valid YAML.
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"package": {"outs": outs}}}) + "\n")


def _read_config(folder: Path) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    try:
        return (
            AutoConfig.from_pretrained(folder, local_files_only=True),
            AutoTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=_MAX_LENGTH),
        )
    except (OSError, ValueError) as error:
        raise KonerError(f"--config: {folder} can't be read as a configuration with a tokenizer: {error}") from None


def _klue_roberta_base(train: Sequence[Sentence]) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    tokenizer = make_tokenizer(build_vocabulary([sentence.text for sentence in train], 2), _MAX_LENGTH)
    config = roberta_config(
        tokenizer, layers=12, hidden_size=768, heads=12, max_length=_MAX_LENGTH, layer_norm_eps=1e-5
    )
    config.vocab_size = _VOCABULARY_SIZE
    return config, tokenizer


def _fit_outside_bias(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sentence]
) -> None:
    """Move the bias on O so that the model finds about as many entities as the sentences have.

    A model with random weights tags nearly every token, and every entity costs time when it is built and serialized.
    """
    margins = []
    with torch.inference_mode():
        for sentence in sentences:
            logits = model(**tokenizer(sentence.text, return_tensors="pt")).logits[0, 1:-1].numpy()
            outside = logits[:, KLUE.tag_to_id[OUTSIDE]].copy()
            logits[:, KLUE.tag_to_id[OUTSIDE]] = -np.inf
            margins.append(logits.max(axis=1) - outside)
    # Neighbouring tokens have different types, so every tagged token is an entity.
    margin = np.concatenate(margins)
    entities = sum(len(sentence.entities) for sentence in sentences)
    with torch.no_grad():
        bias = float(np.quantile(margin, max(0.0, 1 - entities / len(margin))))
        model.classifier.bias[KLUE.tag_to_id[OUTSIDE]] += bias
