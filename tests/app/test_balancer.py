"""Two services behind nginx with the configuration in deploy/: no request fails while one is replaced or stopped."""

import http.client
import json
import os
import re
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from tests.app.gunicorn_service import (
    BODY,
    ROOT,
    TEXTS,
    Load,
    Service,
    finish_request,
    free_port,
    make_checkout,
    open_accepted_request,
    open_request,
    replace_model,
)

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(not NGINX, reason="needs nginx (Debian's package of that name)")


TIMEOUTS = ["proxy_next_upstream_timeout 10s;", "proxy_read_timeout 60s;"]


class Balancer(Service):
    """An nginx process in front of two ports, with its own or shorter timeouts."""

    def __init__(self, folder, ports, *timeouts):
        self.port = free_port()
        text = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")
        for line, shorter in zip(TIMEOUTS, timeouts, strict=False):
            assert text.count(line) == 1
            text = text.replace(line, shorter)
        for line, port in (
            ("listen 8080;", self.port),
            ("server 127.0.0.1:8001 ", ports[0]),
            ("server 127.0.0.1:8002 ", ports[1]),
        ):
            assert text.count(line) == 1
            text = text.replace(line, re.sub("80..(?=[; ])", f"127.0.0.1:{port}", line.replace("127.0.0.1:", "")))
        folder.mkdir()
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        self.stderr = folder / "stderr"
        command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr", "-g", "daemon off;"]
        with self.stderr.open("w") as stderr:
            self.process = psutil.Popen(command, stderr=stderr)

    def __enter__(self):
        self.wait(lambda: status(self, "/") is not None)
        return self


def status(service, path):
    """Return the status of a response, or None if there is no response."""
    try:
        return service.get(path)[0].status
    except (OSError, http.client.HTTPException):
        return None


@pytest.fixture
def checkouts(tmp_path):
    """Two separate checkouts with the same model."""
    for name in "ab":
        (tmp_path / name).mkdir()
    return [make_checkout(tmp_path / name) for name in "ab"]


def served_models(load):
    """Return the models that answered the requests, and check that no request failed."""
    assert load.failures == []
    assert {status for _, _, status, _, _ in load.responses} == {200}
    return {model for *_, model, _ in load.responses}


def test_models_are_replaced_one_service_at_a_time_without_a_failed_request(checkouts, tmp_path):
    with (
        Service(checkouts[0]) as a,
        Service(checkouts[1]) as b,
        Balancer(tmp_path / "nginx", [a.port, b.port]) as nginx,
    ):
        with Load(nginx) as load:
            (old,) = {model for *_, model, _ in list(load.responses)}
            for service in (a, b):
                before = service.worker_pids()
                new = replace_model(service.checkout, seed=2)
                service.process.send_signal(signal.SIGHUP)
                # The service stays ready: either the old or the new worker answers.
                service.wait(lambda s=service, b=before: status(s, "/readyz") == 200 and not s.worker_pids() & b)
                load.wait_for_responses()
        assert served_models(load) == {old, new}
        for service in (a, b):
            assert service.infer(TEXTS[0])[0].headers["X-Koner-Model"] == new


def test_a_service_is_stopped_and_restarted_without_a_failed_request(checkouts, tmp_path):
    with (
        Service(checkouts[0]) as a,
        Service(checkouts[1]) as b,
        Balancer(tmp_path / "nginx", [a.port, b.port]) as nginx,
    ):
        # The worker accepts both requests, and does not exit before they are done.
        with Load(nginx) as load, open_request(a, b"GET /rea") as health_check, open_accepted_request(a) as running:
            a.process.terminate()
            a.wait(lambda: status(a, "/readyz") != 200)
            assert finish_request(health_check, b"dyz HTTP/1.1\r\nHost: a\r\n\r\n")[0].status == 503
            assert nginx.get("/readyz")[0].status == 200
            load.wait_for_responses()
            assert finish_request(running, BODY)[0].status == 200
            assert a.process.wait(60) == 0
            load.wait_for_responses()
            # Start a service with another model on the same port, as `koner serve --rev` would.
            new = replace_model(a.checkout, seed=2)
            with Service(a.checkout, PORT=str(a.port)) as restarted:
                load.wait_for_responses()
                restarted.wait(lambda: any(model == new for *_, model, _ in list(load.responses)))
                load.stop()
        assert len(served_models(load)) == 2


class StandInHandler(BaseHTTPRequestHandler):
    """A stand-in for a service, whose server answers every POST in its own way."""

    def do_POST(self):
        self.server.request_count += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answer(self)

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


@contextmanager
def stand_in(answer):
    """Start a stand-in for a service, and return its server, which counts the POST requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandInHandler)
    server.request_count, server.answer = 0, answer
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reject(handler):
    handler.send_response(503)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_a_rejected_request_is_sent_to_the_other_service(checkouts, tmp_path):
    with stand_in(reject) as full:
        with Service(checkouts[0]) as a, Balancer(tmp_path / "nginx", [full.server_port, a.port]) as nginx:
            assert {nginx.infer(text)[0].status for text in TEXTS[:8]} == {200}
            assert full.request_count > 0
        with Balancer(tmp_path / "none", [full.server_port, free_port()]) as nginx:
            # If no other service accepts the request, nginx returns the response of the full one.
            assert 503 in {nginx.infer(text)[0].status for text in TEXTS[:8]}


def fail_after_work(handler):
    """Close the connection without a response, as a service that is killed, when nginx repeats nothing any more."""
    time.sleep(1.5)
    handler.close_connection = True


def answer_late(handler):
    """Answer after nginx has given up."""
    time.sleep(4)
    handler.close_connection = True


@pytest.mark.parametrize(("answer", "expected_status"), [(fail_after_work, 502), (answer_late, 504)])
def test_a_slow_request_is_sent_only_once(tmp_path, answer, expected_status):
    with (
        stand_in(answer) as a,
        stand_in(answer) as b,
        Balancer(
            tmp_path / "nginx",
            [a.server_port, b.server_port],
            "proxy_next_upstream_timeout 1s;",
            "proxy_read_timeout 3s;",
        ) as nginx,
    ):
        assert nginx.infer(TEXTS[0])[0].status == expected_status
        assert a.request_count + b.request_count == 1


def test_a_request_that_fails_at_once_is_sent_to_the_other_service(checkouts, tmp_path):
    def close(handler):
        handler.close_connection = True

    with (
        stand_in(close) as broken,
        Service(checkouts[0]) as a,
        Balancer(tmp_path / "nginx", [broken.server_port, a.port]) as nginx,
    ):
        assert {nginx.infer(text)[0].status for text in TEXTS[:8]} == {200}
        assert broken.request_count > 0


def test_services_share_no_state(checkouts, tmp_path):
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
        logs = [s.stdout.read_text(encoding="utf-8").splitlines() for s in (a, b)]
        for count, log in zip(counts, logs, strict=True):
            assert len(ids & {json.loads(line)["request_id"] for line in log}) == count
