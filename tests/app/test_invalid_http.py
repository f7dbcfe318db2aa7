"""Requests that are not valid HTTP, and headers that must have no effect, sent to gunicorn."""

import contextlib
import random
import socket

import pytest

from tests.app.gunicorn_service import (
    BODY,
    CHUNKED,
    CHUNKS,
    HEALTH,
    REQUEST,
    TEXTS,
    Service,
    finish_request,
    logged_request,
    make_checkout,
    open_request,
    read_problem,
)


def send_one(head=b"", body=BODY, start=b"POST /infer HTTP/1.1", host=b"Host: a\r\n", length=True):
    """Return a request with the given parts."""
    framing = b"Content-Length: %d\r\n" % len(body) if length else b""
    return start + b"\r\n" + host + b"Content-Type: application/json\r\n" + framing + head + b"\r\n" + body


INVALID = {
    "chunk size -1": (CHUNKED + b"-1\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "chunk size 0x5": (CHUNKED + b"0x5\r\nabcde\r\n0\r\n\r\n", 400),
    "chunk with a wrong end": (CHUNKED + CHUNKS.replace(b"}\r\n", b"}XX"), 400),
    "chunk extension": (CHUNKED + CHUNKS.replace(b"\r\n", b";\1\r\n", 1), 400),
    "trailer": (CHUNKED + CHUNKS[:-2] + b"no trailer\r\n\r\n", 400),
    "trailer of the head": (CHUNKED + CHUNKS[:-2] + b"Host: b\r\n\r\n", 400),
    "length and chunks": (send_one(b"Transfer-Encoding: chunked\r\n"), 400),
    "two lengths": (send_one(b"Content-Length: 3\r\n"), 400),
    "negative length": (send_one(b"Content-Length: -1\r\n", length=False), 400),
    "length of 5000 digits": (send_one(b"Content-Length: " + b"9" * 5000 + b"\r\n", length=False), 400),
    "not chunked": (send_one(b"Transfer-Encoding: gzip\r\n", length=False), 400),
    "unknown coding": (send_one(b"Transfer-Encoding: foo\r\n", length=False), 501),
    "long header": (send_one(b"X: " + b"a" * 9000 + b"\r\n"), 431),
    "65 headers": (send_one(b"".join(b"X%d: a\r\n" % i for i in range(65))), 431),
    "long path": (send_one(start=b"GET /" + b"a" * 3000 + b" HTTP/1.1"), 414),
    "two hosts": (send_one(b"Host: b\r\n"), 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "LF in a header": (send_one(b"X: a\nY: b\r\n"), 400),
    "NUL in a header": (send_one(b"X: a\0b\r\n"), 400),
    "name with a space": (send_one(b"X : a\r\n"), 400),
    "folded header": (send_one(b"X: a\r\n b\r\n"), 400),
    "no colon": (send_one(b"a\r\n"), 400),
    "unknown expectation": (send_one(b"Expect: " + b"a" * 8000 + b"\r\n"), 417),
    "HTTP/2.0": (send_one(start=b"POST /infer HTTP/2.0"), 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "lower case": (send_one(start=b"post /infer HTTP/1.1"), 400),
    "method": (send_one(start=b"PO(T /infer HTTP/1.1"), 400),
    "star": (send_one(start=b"GET * HTTP/1.1"), 400),
    "no URL": (send_one(start=b"POST http://[/infer HTTP/1.1"), 400),
    "not ASCII": (send_one(start="GET /서울 HTTP/1.1".encode()), 400),
    "TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"a" * 100 + b"\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "PROXY": (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 2\r\n" + REQUEST, 400),
}


@pytest.mark.parametrize(("data", "status"), INVALID.values(), ids=INVALID)
def test_requests_that_are_not_valid_http_get_problem_documents(service, data, status):
    with open_request(service, data) as connection:
        detail, request_id = read_problem(connection, status)
    assert detail.startswith("The request cannot be read: ")
    assert detail.endswith(".")
    assert len(detail) < 300
    line = logged_request(service, request_id)
    assert line["status"] == status
    # The path is known if the head is valid.
    assert (line["method"], line["path"]) == (("POST", "/infer") if data.startswith(CHUNKED) else ("UNREADABLE", "/"))
    assert service.infer(TEXTS[0])[0].status == 200


def test_damaged_requests_are_answered(service):
    """Requests that are damaged at random: no status 500, no traceback, and the service goes on."""
    generator = random.Random(1)  # noqa: S311
    fragments = [b"\r\n", b"\n", b"\0", b"\xff", b":", b" ", b"-", b"9" * 30, b"chunked", b"Host: b\r\n", b"%00", b"//"]
    statuses = set()
    for _ in range(300):
        data = bytearray(generator.choice([REQUEST, HEALTH, CHUNKED + CHUNKS]))
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(data))
            data[place : place + generator.choice([0, 1, 5])] = generator.choice(
                [*fragments, generator.randbytes(3), data[generator.randrange(len(data)) :][:40]]
            )
        with open_request(service, bytes(data)) as connection:
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    answer += part
        # There is no answer to an incomplete request.
        statuses.update(int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1."))
    assert {200, 400} <= statuses
    assert not {status for status in statuses if status >= 500} - {501}
    assert service.infer(TEXTS[0])[0].status == 200


def test_headers_do_not_change_the_routing(tmp_path):
    headers = b"SCRIPT_NAME: /inf\r\nPATH_INFO: /healthz\r\nREMOTE_USER: a\r\n"
    schemes = b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n"
    # From an address that gunicorn trusts by default.
    with Service(make_checkout(tmp_path), SCRIPT_NAME="/none") as service:
        expected = service.infer(TEXTS[0])[1]
        for head in (headers, schemes):
            with open_request(service, send_one(head)) as connection:
                response, body = finish_request(connection)
            assert (response.status, body) == (200, expected)


@pytest.mark.parametrize("option", ["--protocol uwsgi", "--certfile /dev/null"])
def test_other_protocols_are_refused(tmp_path, option):
    service = Service(make_checkout(tmp_path), GUNICORN_CMD_ARGS=option)
    assert service.process.wait(60) != 0
    assert service.find_messages("koner: the service speaks only HTTP/1.1 without TLS")
    assert service.find_messages("Traceback") == []
