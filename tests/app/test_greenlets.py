import io
import queue
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from app.greenlets import RequestGreenlet, await_result, is_small

PATIENCE = 10


@pytest.fixture
def loop():
    """The calls that a loop is asked for; `get` waits for one."""
    return queue.Queue()


def test_the_loop_goes_on_while_a_greenlet_waits(loop):
    futures, log = [Future(), Future()], []

    def answer(i):
        log.append(f"{i} asks")
        log.append(f"{i} has {await_result(futures[i])} in {threading.current_thread().name}")

    for i in range(2):
        RequestGreenlet(lambda i=i: answer(i), loop.put).switch()
    assert log == ["0 asks", "1 asks"]
    thread = threading.Thread(target=lambda: [futures[i].set_result("abc"[i]) for i in (1, 0)])
    thread.start()
    thread.join(PATIENCE)
    # Nothing happens before the loop comes to it, and then it happens in the thread of the loop.
    assert len(log) == 2
    for _ in range(2):
        loop.get(timeout=PATIENCE)()
    name = threading.current_thread().name
    assert log[2:] == [f"1 has b in {name}", f"0 has a in {name}"]


def test_a_greenlet_that_ends_the_wait_of_another_goes_on(loop):
    future, log = Future(), []

    def wait():
        log.append(await_result(future))

    def end():
        future.set_result("result")
        log.append("ended")

    RequestGreenlet(wait, loop.put).switch()
    RequestGreenlet(end, loop.put).switch()
    loop.get(timeout=PATIENCE)()
    assert log == ["ended", "result"]


def test_an_exception_reaches_the_greenlet(loop):
    future, caught = Future(), []

    def wait():
        with pytest.raises(ValueError, match="wrong") as error:
            await_result(future)
        caught.append(error)

    RequestGreenlet(wait, loop.put).switch()
    future.set_exception(ValueError("wrong"))
    loop.get(timeout=PATIENCE)()
    assert len(caught) == 1


def test_a_thread_waits_itself():
    future = Future()
    timer = threading.Timer(0.05, future.set_result, ["result"])
    timer.start()
    assert await_result(future) == "result"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"path": "/prefix/infer"}, True),
        ({"method": "GET"}, False),
        ({"path": "/metrics"}, False),
        ({"body": io.BytesIO(b"x" * 4097)}, False),
        ({"body": SimpleNamespace()}, False),
    ],
)
def test_which_requests_are_small(changes, expected):
    request = SimpleNamespace(**{"method": "POST", "path": "/infer", "body": io.BytesIO(b"x" * 4096)} | changes)
    assert is_small(request) is expected
