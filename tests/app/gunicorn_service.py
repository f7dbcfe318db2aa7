"""The service as users start it: `python -m app` with gunicorn on a free port, in a checkout with a tiny model."""

import http.client
import inspect
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from koner.labels.klue import KLUE
from koner.release.hashing import folder_hash
from tests.app.prometheus import parse_samples

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["[UNK]", "[PAD]", *"가나다라마바사아자차카타파하"]
TEXTS = [f"{a} {b} {c}" for a in "가나다라" for b in "마바사아" for c in "자차카타"]

# The headers, without the blank line after them, and the body of a request.
BODY = json.dumps({"text": TEXTS[0]}).encode()
HEAD = f"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n".encode()
# Whole requests.
REQUEST = HEAD + b"\r\n" + BODY
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
# The head and the body of a request in chunks.
CHUNKED = HEAD.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked") + b"\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def write_model(folder, seed, products=0):
    """Write a model that assigns one random tag to each word, and return the hash of its folder.

    With a number of matrix products, which change nothing, it takes about a millisecond for each of them and window.
    """
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"id2label": KLUE.id_to_tag, "pad_token_id": 1, "max_position_embeddings": 24, "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    table = numpy_helper.from_array(
        np.random.default_rng(seed).normal(0, 4, (len(WORDS), len(KLUE.tags))).astype(np.float32), "table"
    )
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, "bt") for n in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "t", len(KLUE.tags)])
    zeros = [
        numpy_helper.from_array(np.zeros((rows, columns), np.float32), name)
        for name, rows, columns in (("a", len(WORDS), 1024), ("b", 1024, 1024), ("c", 1024, len(KLUE.tags)))
        if products
    ]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["words" if products else "logits"])]
    if products:
        nodes.append(helper.make_node("Gather", ["a", "input_ids"], ["product 0"]))
        nodes += [helper.make_node("MatMul", [f"product {i}", "b"], [f"product {i + 1}"]) for i in range(products)]
        nodes.append(helper.make_node("MatMul", [f"product {products}", "c"], ["nothing"]))
        nodes.append(helper.make_node("Add", ["words", "nothing"], ["logits"]))
    graph = helper.make_graph(nodes, "words", inputs, [output], [table, *zeros])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "model.onnx")
    return folder_hash(folder)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def write_lock(root, pinned_hash):
    out = f"    - path: models/ner\n      hash: md5\n      md5: {pinned_hash}\n"
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  package:\n    outs:\n{out}", encoding="utf-8")


def make_checkout(folder, seed=1, products=0):
    """Write a model and a lock file that pins it, and return the folder."""
    write_lock(folder, write_model(folder / "models/ner", seed, products))
    return folder


def replace_model(checkout, seed):
    """Write another model and pin it, and return its hash."""
    shutil.rmtree(checkout / "models/ner")
    hash_ = write_model(checkout / "models/ner", seed)
    write_lock(checkout, hash_)
    return hash_


class Service:
    """A process that runs `python -m app`, or another command of Python, in a checkout, with one thread per model."""

    def __init__(self, checkout, *command, **settings):
        self.checkout = checkout
        self.scratch = checkout / "tmp"
        self.scratch.mkdir(exist_ok=True)
        defaults = {"HOST": "127.0.0.1", "PORT": "0", "KONER_THREADS": "1", "TMPDIR": str(self.scratch)}
        self.stdout, self.stderr = checkout / "stdout", checkout / "stderr"
        with self.stdout.open("w") as stdout, self.stderr.open("w") as stderr:
            self.process = psutil.Popen(
                [sys.executable, *(command or ("-m", "app"))],
                cwd=checkout,
                env={**os.environ, "PYTHONPATH": str(ROOT), **defaults, **settings},
                stdout=stdout,
                stderr=stderr,
            )

    def find_messages(self, pattern):
        """Return the matches of a pattern in the standard error."""
        return re.findall(pattern, self.stderr.read_text(encoding="utf-8"))

    def wait(self, condition):
        """Wait until a condition is true while the service runs, and return its value."""
        deadline = time.monotonic() + 120
        while not (value := condition()):
            assert self.process.poll() is None, self.stderr.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, inspect.getsource(condition)
            time.sleep(0.02)
        return value

    def __enter__(self):
        self.port = int(self.wait(lambda: self.find_messages(r"Listening at: http://127\.0\.0\.1:(\d+)"))[0])
        self.get("/readyz")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            for process in [self.process, *self.process.children(recursive=True)]:
                process.kill()
            self.process.wait()

    def request(self, method, path, body=None):
        """Send a request on a new connection, and return the response and its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response, response.read().decode()
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def infer(self, text):
        return self.request("POST", "/infer", {"text": text})

    def samples(self):
        return parse_samples(self.get("/metrics")[1])

    def model_copies(self):
        """Return the copies of the model folder. There is none if workers share the model that the master loaded."""
        return list(self.scratch.glob("koner-*/model-*"))

    def worker_pids(self):
        return {process.pid for process in self.process.children()}

    @contextmanager
    def suspended(self, pid):
        """Suspend a worker temporarily, so that it accepts no requests."""
        worker = psutil.Process(pid)
        worker.suspend()
        self.wait(lambda: worker.status() == psutil.STATUS_STOPPED)
        yield
        worker.resume()

    def stop(self):
        self.process.terminate()
        return self.process.wait()


class Load:
    """Clients that send one request after another, each on a new connection.

    Attributes:
        responses: A tuple per response: the time of the request, the text, the status, the model's hash and the body.
        failures: The time of each request that got no response.
    """

    def __init__(self, service, clients=4):
        self.service, self.responses, self.failures, self.is_stopped = service, [], [], False
        self.threads = [threading.Thread(target=self._send_requests, args=(i,)) for i in range(clients)]

    def _send_requests(self, i):
        while not self.is_stopped:
            i = (i + 1) % len(TEXTS)
            start = time.monotonic()
            try:
                response, body = self.service.infer(TEXTS[i])
            except (OSError, http.client.HTTPException):
                self.failures.append(start)
            else:
                model_hash = response.headers["X-Koner-Model"]
                self.responses.append((start, TEXTS[i], response.status, model_hash, body))
            # Without pauses the clients would take the cores from the processes that start meanwhile.
            time.sleep(0.05)

    def wait_for_responses(self):
        """Wait for as many responses to requests that are sent from now on as there are clients."""
        now = time.monotonic()
        self.service.wait(lambda: sum(start > now for start, *_ in list(self.responses)) >= len(self.threads))

    def stop(self):
        self.is_stopped = True
        for thread in self.threads:
            thread.join()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_for_responses()
        return self

    def __exit__(self, *_):
        self.stop()


def open_request(service, start):
    """Open a connection, and send the start of a request."""
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(start)
    return connection


def finish_request(connection, rest=b""):
    """Send the rest of a request, and return the response and its body."""
    connection.sendall(rest)
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response, response.read().decode()


def open_accepted_request(service):
    """Open a request that a worker has accepted: it has asked for the body."""
    connection = open_request(service, HEAD + b"Expect: 100-continue\r\n\r\n")
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    return connection


def read_problem(connection, status):
    """Return the problem document of the response, and check that the connection is closed after it."""
    response, body = finish_request(connection)
    assert (response.status, response.headers["Content-Type"]) == (status, "application/problem+json")
    assert response.headers["X-Request-Id"]
    assert response.headers["Connection"] == "close"
    assert connection.recv(1) == b""
    document = json.loads(body)
    assert document["status"] == status
    return document["detail"], response.headers["X-Request-Id"]


def logged_request(service, request_id):
    lines = map(json.loads, service.stdout.read_text(encoding="utf-8").splitlines())
    return next(line for line in lines if line["request_id"] == request_id)
