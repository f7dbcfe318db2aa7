"""A model of klue/roberta-base's shape with random weights: enough for speed and memory, and for nothing else."""

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
    RobertaConfig,
)

from benchmarks.material import Material
from koner.alignment import retag
from koner.corpus import Sentence
from koner.errors import KonerError
from koner.export import export
from koner.labels import ID_TO_TAG, OUTSIDE, TAG_TO_ID
from koner.locking import folder_hash
from koner.vocabulary import build_vocabulary, make_tokenizer

_WINDOW = 512  # tokens
_SEEN = 64  # sentences that the head is fitted to


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what shape of model."""
    parser.add_argument(
        "--config", type=Path, help="folder of a config.json and tokenizer; else klue/roberta-base's shape"
    )
    parser.add_argument("--layers", type=int, help="layers, instead of the configuration's: for a quick look")


def write_model(folder: Path, config: Path | None, layers: int | None, train: Sequence[Sentence]) -> None:
    """Writes a token classifier with random weights and its tokenizer, as transformers reads them.

    `config` is a folder with a config.json and a tokenizer; without one the numbers are klue/roberta-base's and the
    tokenizer is made from `train`.
    """
    shape, tokenizer = _given(config) if config else _klue_roberta_base(train)
    if layers:
        shape.num_hidden_layers = layers
    shape.id2label, shape.label2id = dict(ID_TO_TAG), dict(TAG_TO_ID)
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(shape).eval()
    _find_as_many(model, tokenizer, train[:_SEEN])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare_served(folder: Path, model: Path, sentences: Material, arguments: argparse.Namespace) -> None:
    """Makes a folder that `python -m app` can be started in: such a model exported to `model`, and its dvc.lock.

    A model that is there already is kept.
    """
    if (folder / model).is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as scratch:
        trained = Path(scratch) / "trained"
        write_model(trained, arguments.config, arguments.layers, sentences.train)
        tokenizer = AutoTokenizer.from_pretrained(trained, local_files_only=True)
        development = retag(sentences.train[:_SEEN], tokenizer, _WINDOW, _WINDOW // 4)
        export(trained, {"development": development}, folder / model, arguments.serve_precision)
    outs = [{"path": model.as_posix(), "hash": "md5", "md5": folder_hash(folder / model)}]
    # YAML takes JSON.
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"package": {"outs": outs}}}) + "\n")


def _given(folder: Path) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    try:
        return (
            AutoConfig.from_pretrained(folder, local_files_only=True),
            AutoTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=_WINDOW),
        )
    except (OSError, ValueError) as error:
        raise KonerError(f"--config: {folder} can't be read as a configuration with a tokenizer: {error}") from None


def _klue_roberta_base(train: Sequence[Sentence]) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    tokenizer = make_tokenizer(build_vocabulary([sentence.text for sentence in train], 2), _WINDOW)
    config = RobertaConfig(
        vocab_size=32_000,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=_WINDOW + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return config, tokenizer


def _find_as_many(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sentence]) -> None:
    """Moves the head's bias so that it finds about as many entities as there are in real sentences.

    Random weights tag nearly every token, and entities cost time too: to gather them and to write them out.
    """
    leads = []
    with torch.inference_mode():
        for sentence in sentences:
            logits = model(**tokenizer(sentence.text, return_tensors="pt")).logits[0, 1:-1].numpy()
            outside = logits[:, TAG_TO_ID[OUTSIDE]].copy()
            logits[:, TAG_TO_ID[OUTSIDE]] = -np.inf
            leads.append(logits.max(axis=1) - outside)
    # Each token that they tag is an entity of its own, the next one being of another type.
    lead = np.concatenate(leads)
    entities = sum(len(sentence.entities) for sentence in sentences)
    with torch.no_grad():
        model.classifier.bias[TAG_TO_ID[OUTSIDE]] += float(np.quantile(lead, max(0.0, 1 - entities / len(lead))))
