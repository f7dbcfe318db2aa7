"""Gunicorn's worker: slow clients, many clients, and the ends of connections."""

import contextlib
import re
import resource
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.app.gunicorn_service import (
    BODY,
    CHUNKED,
    CHUNKS,
    HEAD,
    HEALTH,
    REQUEST,
    TEXTS,
    Load,
    Service,
    finish_request,
    logged_request,
    make_checkout,
    open_accepted_request,
    open_request,
    read_problem,
)

# Slow beginnings of requests, and what to go on with.
SLOW_STARTS = {"nothing": (b"", b"G"), "head": (b"GET / HTTP/1.1\r\nX: ", b"a"), "body": (HEAD + b"\r\n", b" ")}


@pytest.fixture
def checkout(tmp_path):
    return make_checkout(tmp_path)


@contextlib.contextmanager
def open_all(service, count, start=b""):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open_request(service, start)) for _ in range(count)]


def test_health_and_answers_beside_a_thousand_slow_clients(checkout):
    # The connections of this process.
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    if maximum != resource.RLIM_INFINITY and maximum < 1300:
        pytest.skip(f"needs 1300 open files, and `ulimit -Hn` is {maximum}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    requests, seconds = 600, 3
    with Service(checkout) as service, contextlib.ExitStack() as stack:
        drips = []
        for start, drip in SLOW_STARTS.values():
            drips += [(connection, drip) for connection in stack.enter_context(open_all(service, 334, start))]
        begin = time.monotonic()

        def send(i):
            time.sleep(max(0.0, begin + i * seconds / requests - time.monotonic()))
            return service.get("/healthz")[0].status if i % 10 == 0 else service.infer(TEXTS[i % 8])[0].status

        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(send, i) for i in range(requests)]
            while not all(answer.done() for answer in answers):
                for connection, drip in drips:
                    # The service may have closed it.
                    with contextlib.suppress(OSError):
                        connection.sendall(drip)
                time.sleep(0.5)
        assert {answer.result() for answer in answers} == {200}
        assert service.find_messages("ERROR|WARNING.*closed") == []


@pytest.mark.parametrize(
    ("start", "drip", "part", "method"),
    [
        (*SLOW_STARTS["head"], "head", "UNREADABLE"),
        (*SLOW_STARTS["body"], "body", "POST"),
        (CHUNKED, b"1", "body", "POST"),
    ],
    ids=["head", "body", "chunks"],
)
def test_a_request_that_is_too_slow_gets_408(service, start, drip, part, method):
    with open_request(service, start) as connection:
        connection.settimeout(0.2)
        data = b""
        while not data:
            with contextlib.suppress(TimeoutError):
                data = connection.recv(1, socket.MSG_PEEK)
            connection.sendall(drip)
        connection.settimeout(60)
        detail, request_id = read_problem(connection, 408)
    assert detail == f"The {part} of the request did not arrive within 1 seconds."
    line = logged_request(service, request_id)
    assert (line["method"], line["status"]) == (method, 408)


def test_a_client_that_sends_nothing_is_disconnected(service):
    with open_request(service, b"") as connection:
        assert connection.recv(1) == b""
    with open_request(service, HEALTH) as connection:
        assert finish_request(connection)[0].status == 200
        # Later, because the client may send another request.
        assert connection.recv(1) == b""


# With a response that is larger than the buffers of a connection.
LARGE_PATH = "/swagger/js/swagger-ui-bundle.js"


def open_slow_reader(service):
    """Send requests on a connection that takes little of their responses."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect(("127.0.0.1", service.port))
    request = f"GET {LARGE_PATH} HTTP/1.1\r\nHost: a\r\n".encode()
    connection.sendall((request + b"\r\n") * 3 + request + b"Connection: close\r\n\r\n")
    return connection


def read_responses(connection):
    """Read until the service closes the connection, and return the status and the body of each response."""
    data = b""
    while part := connection.recv(65536):
        data += part
    responses = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        responses.append((int(head.split()[1]), data[:length].decode()))
        data = data[length:]
    return responses


def test_clients_that_do_not_read_do_not_stop_the_others(service):
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(open_slow_reader(service))
        assert service.get("/healthz")[0].status == 200
        assert service.infer(TEXTS[0])[0].status == 200


def test_a_response_is_whole_for_a_slow_reader_too(checkout):
    with Service(checkout, KONER_SEND_SECONDS="600") as service:
        _, content = service.get(LARGE_PATH)
        assert len(content) > 10**6
        with open_slow_reader(service) as connection:
            time.sleep(0.5)
            assert read_responses(connection) == [(200, content)] * 4


def test_the_clients_that_have_waited_longest_make_room(checkout):
    with Service(checkout, KONER_CONNECTIONS="8") as service, open_all(service, 20, b"GET") as connections:
        assert service.infer(TEXTS[0])[0].status == 200
        for connection in connections[:12]:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        assert finish_request(connections[-1], HEALTH[3:])[0].status == 200
        message = "koner: there are 8 connections; those that have waited longest are closed"
        assert len(service.find_messages(message)) == 1


def test_the_clients_that_hold_most_memory_make_room(checkout):
    limits = {"KONER_MAX_BODY": "1000000", "KONER_QUEUE_REQUESTS": "2"}
    head = HEAD.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: 1000000") + b"\r\n"
    with Service(checkout, **limits) as service, contextlib.ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(open_request(service, head))
            with contextlib.suppress(OSError):
                connection.sendall(b" " * 999_999)
        assert service.infer(TEXTS[0])[0].status == 200
        service.wait(lambda: service.find_messages("koner: connections hold .* bytes; those that hold most are closed"))


def test_a_low_limit_of_open_files_is_kept(checkout):
    code = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "os.execv(sys.executable, [sys.executable, '-m', 'app'])"
    )
    with Service(checkout, "-c", code) as service:
        workers = service.worker_pids()
        with open_all(service, 80):
            for text in TEXTS[:8]:
                assert service.infer(text)[0].status == 200
            assert service.get("/metrics")[0].status == 200
        assert service.worker_pids() == workers
        assert len(service.find_messages(r"the limit of open files \(ulimit -n\) allows \d+ connections")) == 1
        assert len(service.find_messages("WARNING|ERROR")) == 2


@pytest.mark.skipif(not psutil.LINUX, reason="needs prlimit")
def test_a_worker_without_open_files_goes_on(checkout):
    with Service(checkout) as service:
        (pid,) = workers = service.worker_pids()
        # One request opens what the worker needs.
        service.infer(TEXTS[0])
        limit = psutil.Process(pid).num_fds() + 8
        psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE, (limit, limit))
        with open_all(service, 80):
            for text in TEXTS[:8]:
                assert service.infer(text)[0].status == 200
        assert service.worker_pids() == workers
        messages = service.find_messages("WARNING|ERROR")
        assert len(service.find_messages("koner: a connection cannot be accepted: Too many open files")) == 1
        assert len(messages) == 1


def test_requests_in_one_packet_are_answered_in_order(service):
    unknown = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"
    last = REQUEST.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with open_request(service, HEALTH + CHUNKED + CHUNKS + unknown + REQUEST + last) as connection:
        statuses, bodies = zip(*read_responses(connection), strict=True)
    assert statuses == (200, 200, 404, 200, 200)
    assert bodies[1] == bodies[3] == bodies[4] == service.infer(TEXTS[0])[1]


def test_a_large_body_is_refused_before_it_is_sent(service):
    large = (
        HEAD.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: 1048577") + b"Expect: 100-continue\r\n\r\n"
    )
    larger = large.replace(b"1048577", b"1048578")
    # One byte over the maximum is asked for; it makes no difference to clients.
    with open_request(service, large) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b" " * 1_048_577)
        assert finish_request(connection)[0].status == 413
    with open_request(service, larger) as connection:
        assert read_problem(connection, 413)[0] == "The body is larger than the maximum of 1048576 bytes."
    # A client that sends all of it before it reads gets the answer, too.
    with open_request(service, larger.replace(b"Expect", b"X") + b" " * 1_048_578) as connection:
        assert finish_request(connection)[0].status == 413


def test_a_client_without_keep_alive_is_disconnected_at_once(service):
    for request in (
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ):
        with open_request(service, request) as connection:
            content = b""
            while part := connection.recv(65536):
                content += part
        assert content.startswith(b"HTTP/1.")
        assert content.endswith(b"\r\n\r\n") is request.startswith(b"HEAD")


def test_a_worker_is_replaced_after_a_number_of_requests(checkout):
    with Service(checkout, GUNICORN_CMD_ARGS="--max-requests 20") as service:
        first = service.worker_pids()
        with Load(service) as load:
            service.wait(lambda: not service.worker_pids() & first)
            load.wait_for_responses()
        assert load.failures == []
        assert {status for _, _, status, _, _ in load.responses} == {200}


def test_open_connections_end_with_the_service(checkout):
    with Service(checkout) as service, open_all(service, 20) as idle, open_request(service, HEALTH) as kept:
        assert finish_request(kept)[0].headers["Connection"] == "keep-alive"
        with open_accepted_request(service) as running:
            service.process.send_signal(signal.SIGTERM)
            # Idle connections are closed, but requests that have begun are answered.
            for connection in [*idle, kept]:
                assert connection.recv(1) == b""
            response, _ = finish_request(running, BODY)
            assert (response.status, response.headers["Connection"]) == (200, "close")
        assert service.process.wait(60) == 0
        assert service.find_messages("Traceback|ERROR") == []
