import dataclasses
import io
import json

import pytest

VALID_BODY = b'{"text": "\xec\x84\x9c\xec\x9a\xb8"}'
ALLOWED_TEXT = "must be a text of 1 to 10000 code points that is not blank, or a list of 1 to 64 such texts."
FIELDS = "the fields are text, offsets, min_score, labels."


def post(client, body, content_type="application/json", **options):
    return client.post("/infer", data=body, content_type=content_type, **options)


def read_problem(response, status):
    """Return the problem document (RFC 9457) of a response, and check its form and its status."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    document = response.json
    assert list(document) == ["type", "title", "status", "detail", *(["errors"] if "errors" in document else [])]
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"]
    # One sentence on one line.
    assert document["detail"].endswith(".")
    assert "\n" not in document["detail"]
    return document


@pytest.fixture(autouse=True)
def _the_next_request_succeeds(client):
    yield
    assert post(client, VALID_BODY).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
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
        # Not UTF-8: an invalid byte, and a surrogate in CESU-8.
        (b'{"text": "\xff"}', "invalid unicode"),
        (b'{"text": "\xed\xa0\xbd"}', "invalid unicode"),
        # Halves of the surrogate pair of an emoji.
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
def test_a_body_that_is_not_json_is_rejected(client, body, message):
    detail = read_problem(post(client, body), 400)["detail"]
    assert detail.startswith("The body is not valid JSON: ")
    assert message in detail
    assert len(detail) < 300


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("cp949", "CP949 (EUC-KR)"),
        ("utf-8-sig", "UTF-8 with a byte order mark, which JSON must not have"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16-LE"),
        ("utf-16-be", "UTF-16-BE"),
        ("utf-32", "UTF-32"),
        ("utf-32-be", "UTF-32-BE"),
    ],
)
def test_the_encoding_of_a_body_that_is_not_in_utf_8_is_named(client, encoding, name):
    body = '{"text": "서울 똠방각하"}'.encode(encoding)
    assert read_problem(post(client, body), 400)["detail"] == f"The body must be in UTF-8, but seems to be in {name}."


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b'"{\\"text\\": \\"a\\"}"', b'[{"text": "a"}]'])
def test_a_body_must_be_an_object(client, body):
    assert read_problem(post(client, body), 422)["detail"] == 'The body must be a JSON object, such as {"text": "..."}.'


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "#/text", f"text is missing; it {ALLOWED_TEXT}"),
        ({"text": None}, "#/text", f"text is not a string; it {ALLOWED_TEXT}"),
        ({"text": 1}, "#/text", f"text is not a string; it {ALLOWED_TEXT}"),
        ({"text": True}, "#/text", f"text is not a string; it {ALLOWED_TEXT}"),
        ({"text": {"text": "a"}}, "#/text", f"text is not a string; it {ALLOWED_TEXT}"),
        ({"text": ""}, "#/text", f"text is empty; it {ALLOWED_TEXT}"),
        ({"text": " \t\r\n\u3000\u2028"}, "#/text", f"text is blank; it {ALLOWED_TEXT}"),
        ({"text": "a" * 10_001}, "#/text", f"text is too long; it {ALLOWED_TEXT}"),
        ({"text": []}, "#/text", f"text is an empty list; it {ALLOWED_TEXT}"),
        ({"text": ["a"] * 65}, "#/text", f"text has too many items; it {ALLOWED_TEXT}"),
        ({"text": ["a", ""]}, "#/text/1", f"text[1] is empty; text {ALLOWED_TEXT}"),
        ({"text": ["a", "b", " "]}, "#/text/2", f"text[2] is blank; text {ALLOWED_TEXT}"),
        ({"text": ["a", 1]}, "#/text/1", f"text[1] is not a string; text {ALLOWED_TEXT}"),
        ({"text": [["a"]]}, "#/text/0", f"text[0] is not a string; text {ALLOWED_TEXT}"),
        ({"text": ["a", "a" * 10_001]}, "#/text/1", f"text[1] is too long; text {ALLOWED_TEXT}"),
        ({"text": "a", "txt": "b"}, "#/txt", f"txt is not a known field; {FIELDS}"),
        # The service uses this name for a branch of the type of `text`.
        ({"text": "a", "texts": ["b"]}, "#/texts", f"texts is not a known field; {FIELDS}"),
        ({"text": "a", "a/b~c d": 1}, "#/a~1b~0c%20d", f"a/b~c d is not a known field; {FIELDS}"),
        ({"text": "a", "x" * 100: 1}, "#/" + "x" * 100, f"{'x' * 100} is not a known field; {FIELDS}"),
        # What an answer repeats of a request is bounded.
        ({"text": "a", "가" * 100_000: 1}, "#", f"{'가' * 100} is not a known field; {FIELDS}"),
        (
            {"text": "a", "offsets": "bytes"},
            "#/offsets",
            "offsets is not one of the allowed values; it must be 'codepoint' (as in Python) or 'utf16' (as in "
            "JavaScript), the unit of `start` and `end`.",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_invalid_field_is_reported(client, body, pointer, detail):
    document = read_problem(post(client, json.dumps(body)), 422)
    assert document["detail"] == detail
    assert document["errors"] == [{"pointer": pointer, "detail": detail}]


@pytest.mark.parametrize("value", ["0.5", True, None, -0.1, 1.1, 1e999, 10**400, [0.5]], ids=str)
def test_min_score_must_be_a_number_from_0_to_1(client, value):
    body = json.dumps({"text": "a", "min_score": value}).replace("Infinity", "1e999")
    document = read_problem(post(client, body), 422)
    assert (
        document["detail"] == "min_score is not valid; it must be a number from 0 to 1, the minimum score of an entity."
    )
    assert document["errors"][0]["pointer"] == "#/min_score"


@pytest.mark.parametrize(
    ("value", "pointer", "message"),
    [
        ("PS", "#/labels", "labels is not a list; it must be a list of types of entities: PS (person)"),
        (None, "#/labels", "labels is not a list"),
        ([], "#/labels", "labels is an empty list"),
        (["PS"] * 7, "#/labels", "labels has too many items"),
        (["PS", "PER"], "#/labels/1", "labels[1] is not one of the allowed values; labels must be a list of"),
        (["ps"], "#/labels/0", "labels[0] is not one of the allowed values"),
        ([1], "#/labels/0", "labels[0] is not one of the allowed values"),
    ],
    ids=str,
)
def test_labels_must_be_a_list_of_types(client, value, pointer, message):
    document = read_problem(post(client, json.dumps({"text": "a", "labels": value})), 422)
    assert document["detail"].startswith(message)
    assert document["errors"][0]["pointer"] == pointer


def test_up_to_ten_invalid_fields_are_reported(client):
    document = read_problem(post(client, json.dumps({"text": [1, "a", " "], "offsets": 2, "new": 3})), 422)
    assert [error["pointer"] for error in document["errors"]] == ["#/text/0", "#/text/2", "#/offsets", "#/new"]
    assert document["detail"] == document["errors"][0]["detail"]
    many = read_problem(post(client, json.dumps({"text": "a"} | {str(i): i for i in range(5000)})), 422)
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
        "json",
    ],
)
def test_other_content_types_are_rejected(client, content_type):
    response = post(client, VALID_BODY, content_type)
    assert read_problem(response, 415)["detail"] == "The Content-Type of the body must be application/json."
    assert response.headers["Accept"] == "application/json"


@pytest.mark.parametrize("charset", ["euc-kr", "utf-16", "x" * 8000])
def test_other_charsets_are_rejected(client, charset):
    response = post(client, VALID_BODY, f"application/json; charset={charset}")
    detail = f"The body must be in UTF-8, but its Content-Type has the charset {charset[:100]}."
    assert read_problem(response, 415)["detail"] == detail
    assert response.headers["Accept"] == "application/json"


@pytest.mark.parametrize("charset", ["UTF-8", "utf8", "UTF8", "utf_8", '"utf-8"', "us-ascii"])
def test_names_of_utf_8_are_accepted(client, charset):
    assert post(client, VALID_BODY, f"application/json; charset={charset}").status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8"])
def test_equivalent_content_types_are_accepted(client, content_type):
    assert post(client, VALID_BODY, content_type).status_code == 200


def test_compressed_bodies_are_rejected(client):
    response = post(client, VALID_BODY, headers={"Content-Encoding": "gzip"})
    assert read_problem(response, 415)["detail"] == "The body must not be compressed."
    assert response.headers["Accept-Encoding"] == "identity"


def post_chunked(client, body):
    """Send a body of unknown length, as gunicorn passes a body in chunks."""
    environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return client.post(
        "/infer", input_stream=io.BytesIO(body), content_type="application/json", environ_overrides=environ
    )


@pytest.mark.parametrize("send", [post, post_chunked])
def test_a_body_over_the_limit_is_rejected(client, send):
    longest_body = VALID_BODY + b" " * (1_048_576 - len(VALID_BODY))
    assert send(client, longest_body).status_code == 200
    detail = read_problem(send(client, longest_body + b" "), 413)["detail"]
    assert detail == "The body is larger than the maximum of 1048576 bytes."


def test_a_body_whose_content_length_is_over_the_limit_is_not_read(client):
    class UnreadableStream(io.BytesIO):
        def read(self, *_):
            raise AssertionError("the body was read")

        readinto = read

    length = {"CONTENT_LENGTH": "1048578"}
    read_problem(post(client, None, input_stream=UnreadableStream(), environ_overrides=length), 413)


@pytest.mark.parametrize(("text", "count", "total"), [("가 " * 40, 1, 1), (["가", "가 " * 40, "나", "다"], 2, 4)])
def test_texts_with_too_many_tokens_are_rejected(create_client, tagger, text, count, total):
    client = create_client(request_tokens=20)
    texts = [text] if isinstance(text, str) else text
    tokens = sum(len(window) for encoded in tagger.encode(texts[:count]) for window in encoded.windows)
    assert tokens > 20
    detail = (
        f"text has too many tokens of the model: {tokens} in the first {count} of {total} texts; "
        "a request must have at most 20."
    )
    document = read_problem(client.post("/infer", json={"text": text}), 422)
    assert document["detail"] == detail
    assert document["errors"] == [{"pointer": "#/text", "detail": detail}]
    assert client.post("/infer", json={"text": ["가", "나", "다"]}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
def test_other_methods_are_rejected(client, method):
    response = client.open("/infer", method=method)
    assert (
        read_problem(response, 405)["detail"] == f"/infer does not allow the method {method}; it allows OPTIONS, POST."
    )
    assert set(response.allow) == {"OPTIONS", "POST"}


@pytest.mark.parametrize(
    "path", ["/nope", "/infer/", "/infer/x", "/INFER", "/static/none", "/%EC%84%9C%EC%9A%B8", "/%ff"]
)
def test_unknown_paths_are_reported(client, path):
    assert read_problem(client.get(path), 404)["detail"].startswith("There is no resource at /")


def test_a_long_path_is_not_repeated_as_a_whole(client):
    for path, status in (("/" + "가" * 5000, 404), ("/static/" + "a" * 5000, 404)):
        assert len(read_problem(client.get(path), status)["detail"]) < 200


def test_an_unexpected_error_is_logged_but_its_details_are_not_sent(app, client, monkeypatch, caplog):
    class BrokenBatcher:
        def tag(self, texts, is_gone):
            raise RuntimeError("an internal detail")

    monkeypatch.setitem(app.extensions, "koner", dataclasses.replace(app.extensions["koner"], batcher=BrokenBatcher()))
    response = post(client, VALID_BODY)
    monkeypatch.undo()
    document = read_problem(response, 500)
    assert "errors" not in document
    assert not any(word in response.text for word in ("internal", "RuntimeError", "Traceback", ".py"))
    assert "an internal detail" in caplog.text
    assert "Traceback" in caplog.text


def test_requests_are_rejected_while_the_queue_is_full(full_service):
    response = post(full_service.client, VALID_BODY)
    assert full_service.finish() == [200, 200]
    assert read_problem(response, 503)["detail"] == "Too many requests are waiting; try again soon."
    assert int(response.headers["Retry-After"]) > 0
    assert post(full_service.client, VALID_BODY).status_code == 200


def test_requests_during_shutdown_are_rejected(create_client):
    client = create_client()
    client.application.extensions["koner"].batcher.close()
    response = post(client, VALID_BODY)
    assert read_problem(response, 503)["detail"] == "The service is shutting down; try again soon."
    assert int(response.headers["Retry-After"]) > 0
