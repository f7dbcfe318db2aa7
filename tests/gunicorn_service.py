"""The service as it is started, `python -m app`, in a checkout with a tiny model: real gunicorn on a free port."""

import http.client
import inspect
import json
import os
import re
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families
from tokenizers import Tokenizer, models, pre_tokenizers

from koner.labels import ID_TO_TAG, TAGS
from koner.locking import folder_hash

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["[UNK]", "[PAD]", *"가나다라마바사아자차카타파하"]
TEXTS = [f"{a} {b} {c}" for a in "가나다라" for b in "마바사아" for c in "자차카타"]


def write_model(folder, seed):
    """Writes a model that gives each word a tag of its own, drawn by the seed; gives the folder's hash."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"id2label": ID_TO_TAG, "pad_token_id": 1, "max_position_embeddings": 24, "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    table = numpy_helper.from_array(
        np.random.default_rng(seed).normal(0, 4, (len(WORDS), len(TAGS))).astype(np.float32), "table"
    )
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, "bt") for n in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "t", len(TAGS)])
    gather = helper.make_node("Gather", ["table", "input_ids"], ["logits"])
    graph = helper.make_graph([gather], "words", inputs, [output], [table])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "model.onnx")
    return folder_hash(folder)


def write_lock(root, pinned):
    out = f"    - path: models/ner\n      hash: md5\n      md5: {pinned}\n"
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  package:\n    outs:\n{out}", encoding="utf-8")


class Service:
    """`python -m app`, or another command of Python's, in a checkout; each worker's model has one thread unless set."""

    def __init__(self, checkout, *command, **settings):
        self.checkout = checkout
        self.scratch = checkout / "tmp"
        self.scratch.mkdir(exist_ok=True)
        own = {"HOST": "127.0.0.1", "PORT": "0", "KONER_THREADS": "1", "TMPDIR": str(self.scratch)}
        self.output, self.messages = checkout / "stdout", checkout / "stderr"
        with self.output.open("w") as output, self.messages.open("w") as messages:
            self.process = psutil.Popen(
                [sys.executable, *(command or ("-m", "app"))],
                cwd=checkout,
                env={**os.environ, "PYTHONPATH": str(ROOT), **own, **settings},
                stdout=output,
                stderr=messages,
            )

    def said(self, pattern):
        """The matches of a pattern in what was written to standard error."""
        return re.findall(pattern, self.messages.read_text(encoding="utf-8"))

    def wait(self, condition):
        """Waits for something, as long as the service runs; gives it."""
        deadline = time.monotonic() + 120
        while not (found := condition()):
            assert self.process.poll() is None, self.messages.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, inspect.getsource(condition)
            time.sleep(0.02)
        return found

    def __enter__(self):
        self.port = int(self.wait(lambda: self.said(r"Listening at: http://127\.0\.0\.1:(\d+)"))[0])
        self.get("/readyz")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            for process in [self.process, *self.process.children(recursive=True)]:
                process.kill()
            self.process.wait()

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()

    def get(self, path):
        return self.ask("GET", path)

    def infer(self, text):
        return self.ask("POST", "/infer", {"text": text})

    def samples(self):
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
        }

    def copies(self):
        """The copies of the model folder that workers load; with one thread they share what the master loaded."""
        return list(self.scratch.glob("koner-*/model-*"))

    def workers(self):
        return {process.pid for process in self.process.children()}

    @contextmanager
    def idle(self, pid):
        """Keeps a worker from taking requests."""
        worker = psutil.Process(pid)
        worker.suspend()
        self.wait(lambda: worker.status() == psutil.STATUS_STOPPED)
        yield
        worker.resume()

    def stop(self):
        self.process.terminate()
        return self.process.wait()


class Load:
    """Clients that ask again as soon as they are answered, each time on a connection of its own."""

    def __init__(self, service, clients=4):
        self.service, self.answers, self.failures, self.stopped = service, [], [], False
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]

    def run(self, i):
        while not self.stopped:
            i = (i + 1) % len(TEXTS)
            sent = time.monotonic()
            try:
                answer, body = self.service.infer(TEXTS[i])
            except (OSError, http.client.HTTPException):
                self.failures.append(sent)
                time.sleep(0.01)
            else:
                self.answers.append((sent, TEXTS[i], answer.status, answer.headers["X-Koner-Model"], body))

    def more(self):
        """Waits until as many requests as there are clients have been sent and answered from now on."""
        now = time.monotonic()
        self.service.wait(lambda: sum(sent > now for sent, *_ in list(self.answers)) >= len(self.threads))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *_):
        self.stopped = True
        for thread in self.threads:
            thread.join()
