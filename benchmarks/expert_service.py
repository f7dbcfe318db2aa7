"""The service that an expert would build, with which `serving.py` compares: Flask over an int8 model, with a batcher.

gunicorn --worker-class gthread --threads 64 'benchmarks.expert_service:create_app("models/ner", "int8.onnx", 2)'
"""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from flask import Flask, Response, jsonify, request
from tokenizers import Encoding, Tokenizer

from benchmarks.openvino_runtime import OpenVinoRuntime
from koner.inference.runtimes import OnnxRuntime, Runtime

_MAX_TOKENS = 512
_MAX_BATCH = 16


class Batcher(Thread):
    """A thread that runs what waits, sorted by length, in batches; while it does, the next requests gather."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(daemon=True)
        self._runtime = runtime
        self._waiting: SimpleQueue[tuple[list[int], Future[np.ndarray]]] = SimpleQueue()
        self.start()

    def compute_logits(self, ids: list[int]) -> np.ndarray:
        """Return the logits (tokens, labels) of a text; any thread may call it."""
        future: Future[np.ndarray] = Future()
        self._waiting.put((ids, future))
        return future.result()

    def run(self) -> None:
        while True:
            items = [self._waiting.get()]
            try:
                while True:
                    items.append(self._waiting.get_nowait())
            except Empty:
                items.sort(key=lambda item: len(item[0]))
            for start in range(0, len(items), _MAX_BATCH):
                self._run_batch(items[start : start + _MAX_BATCH])

    def _run_batch(self, batch: list[tuple[list[int], Future[np.ndarray]]]) -> None:
        shape = len(batch), max(len(ids) for ids, _ in batch)
        input_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for i, (ids, _) in enumerate(batch):
            input_ids[i, : len(ids)], mask[i, : len(ids)] = ids, 1
        try:
            logits = self._runtime(input_ids, mask)
        except Exception as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for (ids, future), rows in zip(batch, logits, strict=True):
            future.set_result(rows[: len(ids)])


def group_entities(text: str, encoding: Encoding, logits: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """Group the tokens of entities as transformers' pipeline does with `aggregation_strategy="simple"`."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = (exponentials.max(axis=-1) / exponentials.sum(axis=-1)).tolist()
    groups: list[tuple[str, list[int]]] = []
    last = None
    for i, (label_id, special) in enumerate(
        zip(logits.argmax(axis=-1).tolist(), encoding.special_tokens_mask, strict=True)
    ):
        prefix, _, label = labels[label_id].partition("-")
        if special or not label:
            last = None
        elif label == last and prefix == "I":
            groups[-1][1].append(i)
        else:
            groups.append((label, [i]))
            last = label
    entities = []
    for label, tokens in groups:
        start, end = encoding.offsets[tokens[0]][0], encoding.offsets[tokens[-1]][1]
        score = sum(scores[i] for i in tokens) / len(tokens)
        entities.append({"entity_group": label, "score": score, "word": text[start:end], "start": start, "end": end})
    return entities


def create_app(folder: str, model: str, threads: int) -> Flask:
    """Create the application.

    Args:
        folder: The model folder, for its configuration and tokenizer.
        model: The int8 model: an ONNX file for ONNX Runtime, or an `.xml` file for OpenVINO.
        threads: The number of threads of the runtime.
    """
    names = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))["id2label"]
    labels = [names[str(i)] for i in range(len(names))]
    tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    path = Path(model)
    batcher = Batcher(OpenVinoRuntime(path, threads) if path.suffix == ".xml" else OnnxRuntime(path, threads))
    app = Flask(__name__)

    @app.post("/infer")
    def infer() -> Response:
        text = request.get_json()["text"]
        encoding = tokenizer.encode(text)
        return jsonify(input=text, result=group_entities(text, encoding, batcher.compute_logits(encoding.ids), labels))

    return app
