"""Services behind nginx, by the configuration in deploy/: swapped, stopped and refused without a failed request."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from tests.gunicorn_service import ROOT, TEXTS, Load, Service, write_lock, write_model

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(not NGINX, reason="needs nginx (Debian's package of that name)")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Balancer(Service):
    """nginx before two ports, asked as a service is."""

    def __init__(self, folder, ports):
        self.port = free_port()
        text = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")
        for written, port in (
            ("listen 8080;", self.port),
            ("server 127.0.0.1:8001 ", ports[0]),
            ("server 127.0.0.1:8002 ", ports[1]),
        ):
            assert text.count(written) == 1
            text = text.replace(written, re.sub("80..(?=[; ])", f"127.0.0.1:{port}", written.replace("127.0.0.1:", "")))
        folder.mkdir()
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        self.messages = folder / "stderr"
        command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr", "-g", "daemon off;"]
        with self.messages.open("w") as messages:
            self.process = psutil.Popen(command, stderr=messages)

    def __enter__(self):
        self.wait(lambda: status(self, "/") is not None)
        return self


def status(service, path):
    """The status of a service's answer, None without one."""
    try:
        return service.get(path)[0].status
    except (OSError, http.client.HTTPException):
        return None


def connect(service):
    return socket.create_connection(("127.0.0.1", service.port))


def answered(connection, rest):
    """The status of the answer to a request, of which the rest is sent now."""
    connection.sendall(rest)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def make_checkout(folder, seed):
    write_lock(folder, write_model(folder / "models/ner", seed))
    return folder


def replace_model(folder, seed):
    shutil.rmtree(folder / "models/ner")
    new = write_model(folder / "models/ner", seed)
    write_lock(folder, new)
    return new


@pytest.fixture
def checkouts(tmp_path):
    """Two checkouts of the same model, that share nothing."""
    for name in "ab":
        (tmp_path / name).mkdir()
    return [make_checkout(tmp_path / name, seed=1) for name in "ab"]


def served_by(load):
    assert load.failures == []
    assert {found for _, _, found, _, _ in load.answers} == {200}
    return {model for *_, model, _ in load.answers}


def test_each_swaps_its_model_in_turn_and_no_request_fails(checkouts, tmp_path):
    with (
        Service(checkouts[0]) as a,
        Service(checkouts[1]) as b,
        Balancer(tmp_path / "nginx", [a.port, b.port]) as nginx,
    ):
        with Load(nginx) as load:
            (old,) = {model for *_, model, _ in list(load.answers)}
            for service in (a, b):
                before = service.workers()
                new = replace_model(service.checkout, seed=2)
                service.process.send_signal(signal.SIGHUP)
                # From the worker of before or of after: it is ready all the while.
                service.wait(lambda s=service, b=before: status(s, "/readyz") == 200 and not s.workers() & b)
                load.more()
        assert served_by(load) == {old, new}
        for service in (a, b):
            assert service.infer(TEXTS[0])[0].headers["X-Koner-Model"] == new


def test_one_that_stops_is_left_out_and_taken_back(checkouts, tmp_path):
    body = json.dumps({"text": TEXTS[0]}).encode()
    head = f"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with (
        Service(checkouts[0]) as a,
        Service(checkouts[1]) as b,
        Balancer(tmp_path / "nginx", [a.port, b.port]) as nginx,
    ):
        with Load(nginx) as load, connect(a) as asking, connect(a) as running:
            asking.sendall(b"GET /rea")
            running.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
            # In the hands of the worker, which stops no sooner than both are done.
            assert running.recv(1000).startswith(b"HTTP/1.1 100 ")
            a.process.terminate()
            a.wait(lambda: status(a, "/readyz") != 200)
            assert answered(asking, b"dyz HTTP/1.1\r\nHost: a\r\n\r\n") == 503
            assert nginx.get("/readyz")[0].status == 200
            load.more()
            assert answered(running, body) == 200
            assert a.process.wait(60) == 0
            load.more()
            # As `koner serve --rev` would, with another model and in its place.
            new = replace_model(a.checkout, seed=2)
            with Service(a.checkout, PORT=str(a.port)) as again:
                load.more()
                again.wait(lambda: any(model == new for *_, model, _ in list(load.answers)))
                load.stopped = True
                for thread in load.threads:
                    thread.join()
        assert len(served_by(load)) == 2


class Full(BaseHTTPRequestHandler):
    """A service whose queue is full."""

    asked = 0

    def do_POST(self):
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_what_one_refuses_another_takes(checkouts, tmp_path):
    full = ThreadingHTTPServer(("127.0.0.1", 0), Full)
    thread = threading.Thread(target=full.serve_forever)
    thread.start()
    try:
        ports = [full.server_port, free_port()]
        with Service(checkouts[0]) as a, Balancer(tmp_path / "nginx", [full.server_port, a.port]) as nginx:
            assert {nginx.infer(text)[0].status for text in TEXTS[:8]} == {200}
            assert Full.asked > 0
        with Balancer(tmp_path / "none", ports) as nginx:
            # Where no other takes it, the answer is the service's own.
            assert 503 in {nginx.infer(text)[0].status for text in TEXTS[:8]}
    finally:
        full.shutdown()
        thread.join()
        full.server_close()


def test_nothing_is_shared(checkouts, tmp_path):
    with (
        Service(checkouts[0]) as a,
        Service(checkouts[1]) as b,
        Balancer(tmp_path / "nginx", [a.port, b.port]) as nginx,
    ):
        ids = {nginx.infer(text)[0].headers["X-Request-Id"] for text in TEXTS[:20]}
        assert nginx.get("/metrics")[0].status == 404
        counts = [s.samples()["koner_requests_total", "POST", "/infer", "200"] for s in (a, b)]
        assert all(counts)
        assert sum(counts) == len(ids) == 20
        logs = [s.output.read_text(encoding="utf-8").splitlines() for s in (a, b)]
        for count, log in zip(counts, logs, strict=True):
            assert len(ids & {json.loads(line)["request_id"] for line in log}) == count
