import json
import logging
import string
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import create_app
from app.settings import Settings

pytest_plugins = ["tests.app_fixtures"]

TEXT = "홍길동은 서울에 갔다.\n\u2028끝"


@pytest.fixture
def client_of(tiny_model, tagger, capsys, monkeypatch):
    """Makes a client of an application with certain settings, which logs to this test's standard output."""
    monkeypatch.setattr(logging.getLogger("koner.access"), "handlers", [])
    return lambda **settings: create_app(
        Settings(model=tiny_model, allow_unlocked=True, **settings), tagger
    ).test_client()


def lines(capsys):
    output = capsys.readouterr()
    assert output.err == ""
    return [json.loads(line) for line in output.out.splitlines()]


def test_a_request_gives_a_line(client_of, capsys):
    body = json.dumps({"text": [TEXT, "부산"]}).encode()
    answer = client_of().post("/infer?a=b", data=body, content_type="application/json")
    (line,) = lines(capsys)
    assert line == {
        "time": line["time"],
        "request_id": answer.headers["X-Request-Id"],
        "method": "POST",
        "path": "/infer",
        "status": 200,
        "latency_ms": line["latency_ms"],
        "bytes": len(body),
        "texts": 2,
        "entities": sum(len(found["result"]) for found in answer.json),
    }
    assert line["entities"] > 0
    assert line["latency_ms"] > 0
    assert abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/nowhere\t\u2028", 404), ("POST", "/version", 405), ("POST", "/infer", 415)],
)
def test_every_request_gives_one(client_of, capsys, method, path, status):
    client_of().open(quote(path), method=method)
    (line,) = lines(capsys)
    assert (line["method"], line["path"], line["status"]) == (method, path, status)
    assert line["texts"] is line["entities"] is None


def test_refused_and_failed_requests_give_one(client_of, capsys, monkeypatch):
    client = client_of(tokens="token")
    client.post("/infer", json={"text": TEXT})
    monkeypatch.setattr(client.application.extensions["koner"].batcher, "tag", lambda texts: 1 / 0)
    monkeypatch.setattr(client.application.logger, "disabled", True)
    client.post("/infer", json={"text": TEXT}, headers={"Authorization": "Bearer token"})
    found = lines(capsys)
    assert [line["status"] for line in found] == [401, 500]
    assert "token" not in json.dumps(found)


def test_texts_are_logged_only_where_asked_for(client_of, capsys):
    client_of().post("/infer", json={"text": TEXT})
    assert "서울" not in str(lines(capsys))
    client_of(log_text=True).post("/infer", json={"text": TEXT})
    client_of(log_text=True).post("/infer", json={"text": [TEXT, "부산"]})
    assert [line["text"] for line in lines(capsys)] == [[TEXT], [TEXT, "부산"]]


@pytest.mark.parametrize("given_id", ["a", "req-1.2:3/4_5+6=", "x" * 128])
def test_a_sane_request_id_is_kept(client_of, capsys, given_id):
    answer = client_of().get("/healthz", headers={"X-Request-Id": given_id})
    assert answer.headers["X-Request-Id"] == given_id
    assert [line["request_id"] for line in lines(capsys)] == [given_id]


@given(
    st.one_of(st.just("x" * 129), st.text(st.characters(max_codepoint=255, exclude_characters="\n\r\0"), max_size=8))
)
def test_any_other_is_replaced(app, given_id):
    sane = bool(given_id) and set(given_id) <= set(string.ascii_letters + string.digits + "._:+/=-")
    headers = {"HTTP_X_REQUEST_ID": given_id}
    answers = [app.test_client().get("/healthz", environ_overrides=headers) for _ in range(2)]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    if sane and len(given_id) <= 128:
        assert ids == [given_id] * 2
    else:
        assert given_id not in ids
        assert ids[0] != ids[1]


def test_a_reader_of_the_log_that_goes_away_stops_nothing(tiny_model):
    code = """
import sys
from types import SimpleNamespace
from app import create_app
from app.settings import Settings
tagger = SimpleNamespace(tag=lambda text: [])
client = create_app(Settings(model=sys.argv[1], allow_unlocked=True), tagger).test_client()
input()
print(client.get("/healthz").status_code, client.get("/healthz").status_code, file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tiny_model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert "200 200" in process.stderr.read()
