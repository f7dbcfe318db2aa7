"""One request does not take the service from the others, however large it is and even if its client has gone."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.app.gunicorn_service import TEXTS, Service, make_checkout, open_request

# About 13,000 tokens in 560 windows, 80% of what a request may have.
LARGE = json.dumps({"text": ["가 나 " * 2500] * 2}).encode()
HEAD = f"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(LARGE)}\r\n\r\n"


@pytest.fixture
def slow_service(tmp_path):
    """A service whose model takes about half a minute for the large request."""
    with Service(make_checkout(tmp_path, products=50)) as service:
        yield service


def start_large_request(service):
    """Send the large request, and return its connection when it is in the queue."""
    connection = open_request(service, HEAD.encode() + LARGE)
    service.wait(lambda: service.samples()["koner_queue_tokens",] > 5_000)
    return connection


def test_small_requests_are_answered_beside_a_large_one(slow_service):
    with start_large_request(slow_service), ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(slow_service.infer, TEXTS))
        # Most of the large request waits.
        assert slow_service.samples()["koner_queue_tokens",] > 5_000
    assert [response.status for response, _ in answers] == [200] * len(TEXTS)
    assert [json.loads(body)["input"] for _, body in answers] == TEXTS


def test_the_work_of_a_client_that_has_gone_is_dropped(slow_service):
    start_large_request(slow_service).close()
    slow_service.wait(lambda: slow_service.samples()["koner_queue_tokens",] == 0)
    assert slow_service.samples()["koner_batch_windows_sum",] < 300
    slow_service.wait(lambda: ("koner_requests_total", "POST", "/infer", "499") in slow_service.samples())
    assert slow_service.infer(TEXTS[0])[0].status == 200
    statuses = [json.loads(line)["status"] for line in slow_service.stdout.read_text(encoding="utf-8").splitlines()]
    assert statuses.count(499) == 1
