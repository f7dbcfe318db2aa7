"""Fixtures of pretraining: packs of a tiny language, and parameters for training that takes seconds."""

import numpy as np
import pytest

from koner.encoder.vocabulary import SPECIAL_TOKENS, make_tokenizer
from koner.labels.bio import IGNORE_INDEX
from koner.labels.klue import KLUE
from koner.pretraining.packing import NO_TAG, NO_WORD, Document, pack_documents, write_packs
from koner.pretraining.params import load_pretrain_params
from koner.pretraining.train import pretrain

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
    """Packs of a language of 40 tokens, in which each text repeats one token."""
    folder = tmp_path_factory.mktemp("packs")
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *(chr(0xAC00 + i) for i in range(40))])}
    make_tokenizer(vocabulary, LENGTH).save_pretrained(folder / "tokenizer")
    random = np.random.default_rng(0)
    for part, count in (("train", 400), ("held", 40)):
        documents = []
        for _ in range(count):
            ids = np.r_[0, np.full(random.integers(3, 12), 5 + random.integers(40)), 2]
            is_special = ids < 5
            tags = np.where(is_special, NO_TAG, ids % 10)
            labels = np.where(is_special, IGNORE_INDEX, ids % len(KLUE.tags))
            words = np.where(is_special, NO_WORD, np.arange(len(ids)) // 2)
            documents.append(Document(ids, words, tags, tags, labels))
        (folder / part).mkdir()
        write_packs(pack_documents(documents, LENGTH), folder / part)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_params, tiny_packs):
    """A function that pretrains on these packs with changed parameters, writes `pretrained` and returns the metrics."""

    def run(folder, callbacks=(), **changes):
        params = tiny_params.model_copy(update=changes)
        return pretrain(params, tiny_packs, folder / "pretrained", folder / "checkpoints", callbacks)

    return run
