"""Fixtures of the service: a tiny random model, and the application over it.

A test module takes them by `pytest_plugins = ["tests.app_fixtures"]`.
"""

from collections import Counter

import pytest
import torch
from transformers import RobertaConfig, RobertaForTokenClassification

from app import create_app
from app.settings import Settings
from koner.labels import ID_TO_TAG, TAG_TO_ID
from koner.tagger import Tagger
from koner.vocabulary import make_tokenizer, vocabulary_of


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a real model of random weights and windows of 24 tokens, that sees entities almost everywhere."""
    folder = tmp_path_factory.mktemp("tiny") / "ner"
    tokenizer = make_tokenizer(vocabulary_of(Counter(), min_count=1), max_length=24)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=1,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24 + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        id2label=ID_TO_TAG,
        label2id=TAG_TO_ID,
    )
    torch.manual_seed(0)
    model = RobertaForTokenClassification(config)
    # Sure enough of itself for scores that differ.
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tagger(tiny_model):
    return Tagger.load(tiny_model)


@pytest.fixture(scope="session")
def app(tiny_model, tagger):
    """The application with its settings at their defaults; tests leave it as it is."""
    return create_app(Settings(model=tiny_model, allow_unlocked=True), tagger)


@pytest.fixture
def client(app):
    return app.test_client()
