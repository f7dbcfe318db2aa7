"""Fixtures of the tests of the service: a tiny random model, and applications and clients that use it."""

import copy
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import RobertaConfig, RobertaForTokenClassification

from app import create_app
from app.settings import Settings
from koner.encoder.vocabulary import make_tokenizer, vocabulary_from_counts
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from tests.app.gunicorn_service import Service, make_checkout


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a model with random weights and windows of 24 tokens, which predicts many entities."""
    folder = tmp_path_factory.mktemp("tiny") / "ner"
    tokenizer = make_tokenizer(vocabulary_from_counts(Counter(), min_count=1), max_length=24)
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
        id2label=KLUE.id_to_tag,
        label2id=KLUE.tag_to_id,
    )
    torch.manual_seed(0)
    model = RobertaForTokenClassification(config)
    # Large weights, so that the scores of the entities differ.
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tagger(tiny_model):
    return Tagger.load(tiny_model)


@pytest.fixture(scope="session")
def create_client(tiny_model, tagger):
    """A function that creates a client of an application with the tiny model and the given settings."""

    def create(tagger=tagger, **settings):
        settings = {"model": tiny_model, "allow_unlocked": True, **settings}
        return create_app(Settings(**settings), tagger).test_client()

    return create


@pytest.fixture(scope="session")
def app(create_client):
    """An application with default settings, which tests must not modify."""
    return create_client().application


@pytest.fixture
def client(app):
    return app.test_client()


class FullService:
    """A client of a service with a full queue: one request is running, and one is waiting."""

    RUNNING_TEXT = "홍길동이 서울에서 3명을 만났다."
    WAITING_TEXT = "정부는 지난해 부산에 갔다."

    def __init__(self, create_client, tagger, pool):
        self._is_running, self._may_run = threading.Event(), threading.Event()
        # Creating the client runs the model once.
        self._may_run.set()
        slow_tagger = copy.copy(tagger)
        slow_tagger.run = self._run
        self._tagger = tagger
        self.client = create_client(slow_tagger, queue_tokens=1)
        self._is_running.clear()
        self._may_run.clear()
        self._requests = [self._send(pool, self.RUNNING_TEXT)]
        assert self._is_running.wait(60)
        self._requests.append(self._send(pool, self.WAITING_TEXT))
        batcher = self.client.application.extensions["koner"].batcher
        deadline = time.monotonic() + 60
        while not batcher.queued_tokens:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def _run(self, windows):
        self._is_running.set()
        assert self._may_run.wait(60)
        return self._tagger.run(windows)

    def _send(self, pool, text):
        return pool.submit(self.client.application.test_client().post, "/infer", json={"text": text})

    def finish(self):
        """Let the model run, and return the statuses of the two requests."""
        self._may_run.set()
        return [request.result().status_code for request in self._requests]

    def close(self):
        self._may_run.set()


@pytest.fixture
def full_service(create_client, tagger):
    with ThreadPoolExecutor(2) as pool:
        service = FullService(create_client, tagger, pool)
        yield service
        service.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A process of the service with short deadlines, which must log no error."""
    seconds = {"KONER_HEAD_SECONDS": "1", "KONER_BODY_SECONDS": "1", "KONER_SEND_SECONDS": "1"}
    with Service(make_checkout(tmp_path_factory.mktemp("service")), **seconds) as service:
        yield service
        assert service.find_messages("Traceback|ERROR") == []
