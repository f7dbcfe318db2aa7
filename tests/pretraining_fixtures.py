"""Fixtures of pretraining: packs of a tiny language, and parameters for seconds of training.

A test module takes them by `pytest_plugins = ["tests.pretraining_fixtures"]`.
"""

import numpy as np
import pytest

from koner.packing import NO_TAG, NO_WORD, Document, pack, write_packs
from koner.pretrain_params import load_pretrain_params
from koner.pretraining import pretrain
from koner.vocabulary import SPECIAL_TOKENS, make_tokenizer

LENGTH = 16
TINY = {
    "length": LENGTH,
    "layers": 1,
    "hidden_size": 16,
    "heads": 2,
    "skipgram_epochs": 0,
    "batch_size": 8,
    "steps": 60,
    "warmup_steps": 6,
    "decay_steps": 1,
    "evaluate_every": 20,
    "lr": 1e-2,
    "precision": "fp32",
}


@pytest.fixture(scope="session")
def tiny_params(root):
    """A model of one layer, 60 steps."""
    return load_pretrain_params(root / "stages/pretrain/params.yaml").model_copy(update=TINY)


@pytest.fixture(scope="session")
def tiny_packs(tmp_path_factory):
    """Packs of a language of 40 tokens, each text of which says one of them, again and again."""
    folder = tmp_path_factory.mktemp("packs")
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *(chr(0xAC00 + i) for i in range(40))])}
    make_tokenizer(vocabulary, LENGTH).save_pretrained(folder / "tokenizer")
    random = np.random.default_rng(0)
    for part, count in (("train", 400), ("held", 40)):
        documents = []
        for _ in range(count):
            ids = np.r_[0, np.full(random.integers(3, 12), 5 + random.integers(40)), 2]
            special = ids < 5
            tags = np.where(special, NO_TAG, ids % 10)
            documents.append(Document(ids, np.where(special, NO_WORD, np.arange(len(ids)) // 2), tags, tags))
        (folder / part).mkdir()
        write_packs(pack(documents, LENGTH), LENGTH, folder / part)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_params, tiny_packs):
    """Pretrains on those packs, by those parameters with changes: gives the figures, writes to `folder/pretrained`."""

    def run(folder, callbacks=(), **changes):
        params = tiny_params.model_copy(update=changes)
        return pretrain(params, tiny_packs, folder / "pretrained", folder / "checkpoints", callbacks)

    return run
