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

from tests.app.gunicorn_service import write_model

TEXT = "홍길동은 서울에 갔다.\n\u2028끝"


@pytest.fixture
def read_log(capsys, monkeypatch):
    """A function that returns the new lines of the access logs of applications that the test creates."""
    monkeypatch.setattr(logging.getLogger("koner.access"), "handlers", [])

    def read():
        output = capsys.readouterr()
        assert output.err == ""
        return [json.loads(line) for line in output.out.splitlines()]

    return read


def test_a_request_is_logged_in_one_line(create_client, read_log):
    body = json.dumps({"text": [TEXT, "부산"]}).encode()
    response = create_client().post("/infer?a=b", data=body, content_type="application/json")
    (line,) = read_log()
    assert line == {
        "time": line["time"],
        "request_id": response.headers["X-Request-Id"],
        "method": "POST",
        "path": "/infer",
        "status": 200,
        "latency_ms": line["latency_ms"],
        "bytes": len(body),
        "texts": 2,
        "entities": sum(len(answer["result"]) for answer in response.json),
    }
    assert line["entities"] > 0
    assert line["latency_ms"] > 0
    assert abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < timedelta(minutes=5)


def test_filtered_entities_are_counted_too(create_client, read_log):
    create_client().post("/infer", json={"text": TEXT})
    create_client().post("/infer", json={"text": TEXT, "min_score": 1})
    first, second = read_log()
    assert first["entities"] == second["entities"] > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/nowhere\t\u2028", 404), ("POST", "/version", 405), ("POST", "/infer", 415)],
)
def test_requests_without_texts_are_logged(create_client, read_log, method, path, status):
    create_client().open(quote(path), method=method)
    (line,) = read_log()
    assert (line["method"], line["path"], line["status"]) == (method, path, status)
    assert line["texts"] is line["entities"] is None


def test_rejected_and_failed_requests_are_logged(create_client, read_log, monkeypatch):
    client = create_client(tokens="token")
    client.post("/infer", json={"text": TEXT})
    monkeypatch.setattr(client.application.extensions["koner"].batcher, "tag", lambda texts: 1 / 0)
    monkeypatch.setattr(client.application.logger, "disabled", True)
    client.post("/infer", json={"text": TEXT}, headers={"Authorization": "Bearer token"})
    lines = read_log()
    assert [line["status"] for line in lines] == [401, 500]
    assert "token" not in json.dumps(lines)


def test_texts_are_only_logged_if_the_setting_says_so(create_client, read_log):
    create_client().post("/infer", json={"text": TEXT})
    assert "서울" not in str(read_log())
    create_client(log_text=True).post("/infer", json={"text": TEXT})
    create_client(log_text=True).post("/infer", json={"text": [TEXT, "부산"]})
    assert [line["text"] for line in read_log()] == [[TEXT], [TEXT, "부산"]]


@pytest.mark.parametrize("request_id", ["a", "req-1.2:3/4_5+6=", "x" * 128])
def test_a_valid_request_id_is_kept(create_client, read_log, request_id):
    response = create_client().get("/healthz", headers={"X-Request-Id": request_id})
    assert response.headers["X-Request-Id"] == request_id
    assert [line["request_id"] for line in read_log()] == [request_id]


@given(
    st.one_of(st.just("x" * 129), st.text(st.characters(max_codepoint=255, exclude_characters="\n\r\0"), max_size=8))
)
def test_an_invalid_request_id_is_replaced(app, request_id):
    has_valid_characters = set(request_id) <= set(string.ascii_letters + string.digits + "._:+/=-")
    headers = {"HTTP_X_REQUEST_ID": request_id}
    responses = [app.test_client().get("/healthz", environ_overrides=headers) for _ in range(2)]
    ids = [response.headers["X-Request-Id"] for response in responses]
    if has_valid_characters and 1 <= len(request_id) <= 128:
        assert ids == [request_id] * 2
    else:
        assert request_id not in ids
        assert ids[0] != ids[1]


def test_the_service_goes_on_when_the_reader_of_the_log_closes_the_pipe(tmp_path):
    write_model(tmp_path / "ner", seed=1)
    code = """
import sys
from app import create_app
from app.settings import Settings
client = create_app(Settings(model=sys.argv[1], allow_unlocked=True)).test_client()
input()
print(client.get("/healthz").status_code, client.get("/healthz").status_code, file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "ner")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert "200 200" in process.stderr.read()
