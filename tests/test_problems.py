import copy
import dataclasses
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app import create_app
from app.settings import Settings

pytest_plugins = ["tests.app_fixtures"]

GOOD = b'{"text": "\xec\x84\x9c\xec\x9a\xb8"}'
MUST = "must be a text of 1 to 10000 code points that isn't blank, or a list of 1 to 64 such texts."
FIELDS = "known are text, offsets, min_score, labels."


def post(client, body, content_type="application/json", **options):
    return client.post("/infer", data=body, content_type=content_type, **options)


def problem(answer, status):
    """Checks that an answer is a problem document of a status, as RFC 9457 has it, and gives it."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json
    assert list(document) == ["type", "title", "status", "detail", *(["errors"] if "errors" in document else [])]
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"]
    # One line, one sentence.
    assert document["detail"].endswith(".")
    assert "\n" not in document["detail"]
    return document


@pytest.fixture(autouse=True)
def _the_next_request_is_fine(client):
    yield
    assert post(client, GOOD).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "EOF"),
        (b"text", "expected"),
        (b"text=a", "expected"),
        (b'{"text": "a"', "EOF"),
        (b'{"text": "a"} x', "trailing characters"),
        (b'{"text": "a"}{"text": "a"}', "trailing characters"),
        (b'{"text": "a",}', "trailing comma"),
        (b"{'text': 'a'}", "key must be a string"),
        (b'{"text": NaN}', "expected value"),
        (b'{"text": "a", "min_score": NaN}', "expected value"),
        (b'{"text": "a", "min_score": -Infinity}', "invalid number"),
        (b'{"text": "a", "min_score": 1' + b"0" * 5000 + b"}", "number out of range"),
        (b'{"text": "a", "text": "b"}', 'duplicate key "text"'),
        (b'{"text": "a\nb"}', "control character"),
        # Not UTF-8: a lone byte, EUC-KR, UTF-16, a surrogate as CESU-8 has it.
        (b'{"text": "\xff"}', "invalid unicode"),
        ('{"text": "서울"}'.encode("euc-kr"), "invalid unicode"),
        ('{"text": "서울"}'.encode("utf-16"), "expected value"),
        (b'{"text": "\xed\xa0\xbd"}', "invalid unicode"),
        # Halves of an emoji.
        (rb'{"text": "\ud83d"}', "half of a surrogate pair?"),
        (rb'{"text": "\ude00a"}', "half of a surrogate pair?"),
        (rb'{"text": ["\ud83da"]}', "half of a surrogate pair?"),
        (rb'{"\ud83d": 1}', "half of a surrogate pair?"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"text":' * 100_000, "recursion limit"),
        (b'{"text": "a", "' + b"x" * 1000 + b'": 1, "' + b"x" * 1000 + b'": 1}', "duplicate key"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_what_is_no_json_in_utf_8_is_told(client, body, words):
    detail = problem(post(client, body), 400)["detail"]
    assert detail.startswith("The body is not valid JSON: ")
    assert words in detail
    assert len(detail) < 300


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b'"{\\"text\\": \\"a\\"}"', b'[{"text": "a"}]'])
def test_a_body_must_be_an_object(client, body):
    assert problem(post(client, body), 422)["detail"] == 'The body must be a JSON object, such as {"text": "..."}.'


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "#/text", f"text is missing; it {MUST}"),
        ({"text": None}, "#/text", f"text is not a string; it {MUST}"),
        ({"text": 1}, "#/text", f"text is not a string; it {MUST}"),
        ({"text": True}, "#/text", f"text is not a string; it {MUST}"),
        ({"text": {"text": "a"}}, "#/text", f"text is not a string; it {MUST}"),
        ({"text": ""}, "#/text", f"text is empty; it {MUST}"),
        ({"text": " \t\r\n\u3000\u2028"}, "#/text", f"text is blank; it {MUST}"),
        ({"text": "a" * 10_001}, "#/text", f"text is too long; it {MUST}"),
        ({"text": []}, "#/text", f"text is an empty list; it {MUST}"),
        ({"text": ["a"] * 65}, "#/text", f"text has too many parts; it {MUST}"),
        ({"text": ["a", ""]}, "#/text/1", f"text[1] is empty; text {MUST}"),
        ({"text": ["a", "b", " "]}, "#/text/2", f"text[2] is blank; text {MUST}"),
        ({"text": ["a", 1]}, "#/text/1", f"text[1] is not a string; text {MUST}"),
        ({"text": [["a"]]}, "#/text/0", f"text[0] is not a string; text {MUST}"),
        ({"text": ["a", "a" * 10_001]}, "#/text/1", f"text[1] is too long; text {MUST}"),
        ({"text": "a", "txt": "b"}, "#/txt", f"txt is not a known field; {FIELDS}"),
        # Named as the type of the list is within the service.
        ({"text": "a", "texts": ["b"]}, "#/texts", f"texts is not a known field; {FIELDS}"),
        ({"text": "a", "a/b~c d": 1}, "#/a~1b~0c%20d", f"a/b~c d is not a known field; {FIELDS}"),
        ({"text": "a", "x" * 100: 1}, "#/" + "x" * 100, f"{'x' * 60} is not a known field; {FIELDS}"),
        (
            {"text": "a", "offsets": "bytes"},
            "#/offsets",
            "offsets is none of those known; it must be 'codepoint' (as Python counts) or 'utf16' (as JavaScript "
            "counts): the unit of `start` and `end`.",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_schema_forbids_is_told_by_field(client, body, pointer, detail):
    document = problem(post(client, json.dumps(body)), 422)
    assert document["detail"] == detail
    assert document["errors"] == [{"pointer": pointer, "detail": detail}]


@pytest.mark.parametrize("value", ["0.5", True, None, -0.1, 1.1, 1e999, 10**400, [0.5]], ids=str)
def test_min_score_is_a_number_from_0_to_1(client, value):
    body = json.dumps({"text": "a", "min_score": value}).replace("Infinity", "1e999")
    document = problem(post(client, body), 422)
    assert (
        document["detail"] == "min_score is not allowed; it must be a number from 0 to 1, the lowest score to answer."
    )
    assert document["errors"][0]["pointer"] == "#/min_score"


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ("PS", "#/labels", "labels is not a list; it must be a list of the types to answer, of PS (person)"),
        (None, "#/labels", "labels is not a list"),
        ([], "#/labels", "labels is an empty list"),
        (["PS"] * 7, "#/labels", "labels has too many parts"),
        (["PS", "PER"], "#/labels/1", "labels[1] is none of those known; labels must be a list of"),
        (["ps"], "#/labels/0", "labels[0] is none of those known"),
        ([1], "#/labels/0", "labels[0] is none of those known"),
    ],
    ids=str,
)
def test_labels_are_a_list_of_types(client, value, pointer, words):
    document = problem(post(client, json.dumps({"text": "a", "labels": value})), 422)
    assert document["detail"].startswith(words)
    assert document["errors"][0]["pointer"] == pointer


def test_every_fault_is_told_up_to_ten(client):
    document = problem(post(client, json.dumps({"text": [1, "a", " "], "offsets": 2, "new": 3})), 422)
    assert [fault["pointer"] for fault in document["errors"]] == ["#/text/0", "#/text/2", "#/offsets", "#/new"]
    assert document["detail"] == document["errors"][0]["detail"]
    many = problem(post(client, json.dumps({"text": "a"} | {str(i): i for i in range(5000)})), 422)
    assert len(many["errors"]) == 10


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/problem+json",
        "application/json; charset=euc-kr",
        "json",
    ],
)
def test_other_types_of_body_are_refused(client, content_type):
    answer = post(client, GOOD, content_type)
    assert problem(answer, 415)["detail"] == "The body must be of Content-Type application/json, in UTF-8."
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8"])
def test_json_by_any_spelling_is_taken(client, content_type):
    assert post(client, GOOD, content_type).status_code == 200


def test_compressed_bodies_are_refused(client):
    answer = post(client, GOOD, headers={"Content-Encoding": "gzip"})
    assert problem(answer, 415)["detail"] == "The body must not be compressed."
    assert answer.headers["Accept-Encoding"] == "identity"


def chunked(client, body):
    """Sends a body as gunicorn hands over one in chunks: of unknown length."""
    environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return client.post(
        "/infer", input_stream=io.BytesIO(body), content_type="application/json", environ_overrides=environ
    )


@pytest.mark.parametrize("send", [post, chunked])
def test_a_body_over_the_limit_is_refused(client, send):
    most = GOOD + b" " * (1_048_576 - len(GOOD))
    assert send(client, most).status_code == 200
    detail = problem(send(client, most + b" "), 413)["detail"]
    assert detail == "The body is larger than 1048576 bytes, the most taken."


def test_a_body_that_says_it_is_over_the_limit_is_not_read(client):
    class Unread(io.BytesIO):
        def read(self, *_):
            raise AssertionError("the body was read")

        readinto = read

    length = {"CONTENT_LENGTH": "1048578"}
    problem(post(client, None, input_stream=Unread(), environ_overrides=length), 413)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(client, method):
    answer = client.open("/infer", method=method)
    assert problem(answer, 405)["detail"] == f"/infer takes OPTIONS, POST, not {method}."
    assert set(answer.allow) == {"OPTIONS", "POST"}


@pytest.mark.parametrize(
    "path", ["/nope", "/infer/", "/infer/x", "/INFER", "/static/none", "/%EC%84%9C%EC%9A%B8", "/%ff"]
)
def test_unknown_paths_are_told(client, path):
    assert problem(client.get(path), 404)["detail"].startswith("There is nothing at /")


def test_a_failure_within_is_told_without_its_insides_and_logged(app, client, monkeypatch, caplog):
    class Broken:
        def tag(self, texts):
            raise RuntimeError("the secret of the model")

    monkeypatch.setitem(app.extensions, "koner", dataclasses.replace(app.extensions["koner"], batcher=Broken()))
    answer = post(client, GOOD)
    monkeypatch.undo()
    document = problem(answer, 500)
    assert "errors" not in document
    assert not any(word in answer.text for word in ("secret", "RuntimeError", "Traceback", ".py"))
    assert "the secret of the model" in caplog.text
    assert "Traceback" in caplog.text


def test_a_full_queue_is_told_and_empties(tiny_model, tagger):
    """One text runs, one waits, and the queue has no room for a third."""
    running, gate = threading.Event(), threading.Event()
    gate.set()
    held = copy.copy(tagger)

    def run(windows):
        running.set()
        assert gate.wait(60)
        return tagger.run(windows)

    held.run = run
    app = create_app(Settings(model=tiny_model, allow_unlocked=True, queue_tokens=1), held)
    batcher = app.extensions["koner"].batcher
    running.clear()
    gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, app.test_client(), GOOD)
        try:
            assert running.wait(60)
            second = pool.submit(post, app.test_client(), GOOD)
            deadline = time.monotonic() + 60
            while not batcher.queued_tokens and time.monotonic() < deadline:
                time.sleep(0.001)
            answer = post(app.test_client(), GOOD)
        finally:
            gate.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]
    assert problem(answer, 503)["detail"] == "Too much text is waiting already; try again soon."
    assert int(answer.headers["Retry-After"]) > 0
    assert post(app.test_client(), GOOD).status_code == 200


def test_a_service_that_stops_says_so(tiny_model, tagger):
    app = create_app(Settings(model=tiny_model, allow_unlocked=True), tagger)
    app.extensions["koner"].batcher.close()
    answer = post(app.test_client(), GOOD)
    assert problem(answer, 503)["detail"] == "The service is stopping; try again soon."
    assert int(answer.headers["Retry-After"]) > 0
