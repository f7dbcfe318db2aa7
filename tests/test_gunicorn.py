import http.client
import json
import shutil
import signal
import socket
import time

import psutil
import pytest

from koner.locking import folder_hash
from koner.tagger import Tagger
from tests.gunicorn_service import TEXTS, Load, Service, write_lock, write_model


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose lock file pins its model."""
    write_lock(tmp_path, write_model(tmp_path / "models/ner", seed=1))
    return tmp_path


def expected(folder):
    """What a model finds, as the service answers it, by text; scores left out."""
    tagged = Tagger.load(folder, device="cpu", threads=1).tag_all(TEXTS)
    return {
        text: [(entity.start, entity.end, entity.label) for entity in found.entities]
        for text, found in zip(TEXTS, tagged, strict=True)
    }


def found_in(body):
    return [(entity["start"], entity["end"], entity["entity_group"]) for entity in json.loads(body)["result"]]


def test_the_locked_model_is_served(checkout):
    pinned = folder_hash(checkout / "models/ner")
    finds = expected(checkout / "models/ner")
    # Workers with threads of their own, for once.
    with Service(checkout, KONER_THREADS="2", KONER_LOG_TEXT="1") as service:
        assert len(service.copies()) == 1
        for text in TEXTS[:4]:
            answer, body = service.infer(text)
            assert (answer.status, answer.headers["X-Koner-Model"]) == (200, pinned)
            assert found_in(body) == finds[text]
        assert any(finds[text] for text in TEXTS[:4])
        told = service.said(f"koner: serving models/ner, {pinned}, the locked model; (.*)")
        assert told == ["workers: 1, each by ONNX Runtime fp32, 2 threads"]
        assert service.stop() == 0
    lines = [json.loads(line) for line in service.output.read_text(encoding="utf-8").splitlines()]
    assert [line["path"] for line in lines] == ["/readyz", *["/infer"] * 4]
    assert lines[-1]["text"] == [TEXTS[3]]
    assert list(service.scratch.iterdir()) == []


def test_an_unlocked_model_is_served_if_asked_for(checkout):
    write_lock(checkout, "0" * 32 + ".dir")
    with Service(checkout, KONER_ALLOW_UNLOCKED="1") as service:
        answer, _ = service.infer(TEXTS[0])
        assert answer.headers["X-Koner-Model"] == folder_hash(checkout / "models/ner") + "; unlocked"
        assert service.said(r"\[WARNING\] koner: serving .*, NOT the locked model; ")


def refusal(checkout, **settings):
    """What a service that doesn't start says: one sentence, and no more."""
    service = Service(checkout, **settings)
    assert service.process.wait() == 1
    assert service.output.read_text(encoding="utf-8") == ""
    (line,) = service.messages.read_text(encoding="utf-8").splitlines()
    assert list(service.scratch.iterdir()) == []
    return line


def test_another_model_than_the_locked_one_is_refused(checkout):
    pinned = folder_hash(checkout / "models/ner")
    shutil.rmtree(checkout / "models/ner")
    found = write_model(checkout / "models/ner", seed=2)
    line = refusal(checkout)
    assert line.startswith(
        f"koner: models/ner is not what dvc.lock pins: its hash is {found}, the pinned one {pinned}; run `dvc checkout`"
    )


def test_a_missing_model_is_refused(checkout):
    shutil.rmtree(checkout / "models/ner")
    assert refusal(checkout).startswith("koner: models/ner is missing; run `dvc repro`")


def test_a_locked_model_that_does_not_run_is_refused(checkout):
    (checkout / "models/ner/model.onnx").write_bytes(b"no model")
    write_lock(checkout, folder_hash(checkout / "models/ner"))
    assert refusal(checkout).startswith("koner: models/ner/model.onnx can't be read as an ONNX model")


def test_a_port_in_use_is_refused(checkout):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refusal(checkout, PORT=str(port))
    assert line == f"koner: HOST 127.0.0.1, PORT {port}: can't listen there: Address already in use"


def test_a_stop_before_it_serves_leaves_nothing_behind(checkout):
    service = Service(checkout)
    service.wait(lambda: list(service.scratch.glob("koner-*")))
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) in (0, 128 + signal.SIGTERM)
    assert not list(service.scratch.iterdir())


def test_the_figures_of_all_workers_add_up(checkout):
    with Service(checkout, WORKERS="2") as service:
        pids = sorted(service.wait(lambda: len(service.workers()) == 2 and service.workers()))
        before = service.samples()
        for pid in pids:
            # So that the other one takes every request.
            with service.idle(pid):
                for text in TEXTS[:3]:
                    service.infer(text)
        after = service.samples()
        key = ("koner_requests_total", "POST", "/infer", "200")
        assert after[key] - before.get(key, 0) == 6
        assert after["koner_batch_windows_sum",] - before["koner_batch_windows_sum",] == 6
        assert after["koner_model_info", folder_hash(checkout / "models/ner"), "true"] == 1
        assert after["koner_queue_tokens",] == 0


def test_a_killed_worker_takes_only_its_own_requests_along(checkout):
    pinned = folder_hash(checkout / "models/ner")
    with Service(checkout, WORKERS="2") as service:
        before = service.wait(lambda: len(service.workers()) == 2 and service.workers())
        assert service.copies() == []
        # As in the middle of `dvc repro`; the replacement must not need it.
        shutil.rmtree(checkout / "models/ner")
        with Load(service) as load:
            victim = psutil.Process(min(before))
            victim.kill()
            psutil.wait_procs([victim])
            gone = time.monotonic()
            load.more()
            after = service.wait(
                lambda: service.workers() - before and len(service.workers()) == 2 and service.workers()
            )
            load.more()
        assert len(after - before) == 1
        with service.idle(*(after & before)):
            assert service.infer(TEXTS[0])[0].status == 200
        assert all(sent < gone for sent in load.failures)
        assert len(load.failures) <= len(load.threads)
        assert {(status, model) for _, _, status, model, _ in load.answers} == {(200, pinned)}


def test_sighup_brings_the_new_model_and_loses_no_request(checkout):
    served = checkout / "models/ner"
    old = folder_hash(served)
    new = write_model(checkout / "new", seed=2)
    finds = {old: expected(served), new: expected(checkout / "new")}
    assert finds[old] != finds[new]
    with Service(checkout, WORKERS="2") as service, Load(service) as load:

        def hang_up():
            before = service.workers()
            service.process.send_signal(signal.SIGHUP)
            service.wait(lambda: len(service.workers() - before) == 2 and not service.workers() & before)
            load.more()
            return time.monotonic()

        service.wait(lambda: len(service.workers()) == 2)
        shutil.rmtree(served)
        shutil.copytree(checkout / "new", served)
        refused = hang_up()
        kept = f"koner: the model stays as it was: models/ner is not what dvc.lock pins: its hash is {new}, .* {old}"
        assert service.said(kept)
        load.more()
        write_lock(checkout, new)
        replaced = hang_up()
        load.more()
        # The gauge of the old workers went with them.
        service.wait(
            lambda: [k for k in service.samples() if k[0] == "koner_model_info"] == [("koner_model_info", new, "true")]
        )
    assert load.failures == []
    for sent, text, status, model, body in load.answers:
        assert status == 200
        assert model in ([new] if sent > replaced else [old, new] if sent > refused else [old])
        assert found_in(body) == finds[model][text]
    assert {model for *_, model, _ in load.answers} == {old, new}


BODY = json.dumps({"text": TEXTS[0]}).encode()
HEAD = f"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n".encode()


def connect(service, start):
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(start)
    return connection


def answer(connection, rest=b""):
    connection.sendall(rest)
    found = http.client.HTTPResponse(connection)
    found.begin()
    return found, found.read().decode()


def begin(service):
    """Begins a request that a worker has taken, as it asks for the body."""
    connection = connect(service, HEAD + b"Expect: 100-continue\r\n\r\n")
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    return connection


def refuses(service):
    try:
        socket.create_connection(("127.0.0.1", service.port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_running_requests_finish(checkout):
    finds = expected(checkout / "models/ner")
    with Service(checkout) as service:
        waiting = [connect(service, b"GET /rea") for _ in range(30)]
        # Those before them are taken, too.
        running = [begin(service) for _ in range(4)]
        service.process.terminate()
        statuses = []
        while 503 not in statuses:
            statuses.append(answer(waiting.pop(), b"dyz HTTP/1.1\r\nHost: a\r\n\r\n")[0].status)
            time.sleep(0.1)
        assert set(statuses) <= {200, 503}
        for connection in running:
            found, text = answer(connection, BODY)
            assert found.status == 200
            assert found_in(text) == finds[TEXTS[0]]
        for connection in [*waiting, *running]:
            connection.close()
        assert service.process.wait() == 0


def test_a_service_that_stops_refuses_connections_while_it_still_answers(checkout):
    with Service(checkout, WORKERS="2") as service:
        service.wait(lambda: len(service.workers()) == 2)
        with begin(service) as running:
            service.process.terminate()
            service.wait(lambda: refuses(service))
            assert answer(running, BODY)[0].status == 200
        assert service.process.wait(60) == 0


def test_what_had_connected_before_a_stop_is_answered(checkout):
    with Service(checkout) as service:
        (pid,) = service.workers()
        with service.idle(pid):
            # The kernel connects them; the worker has yet to look.
            connected = [connect(service, HEAD + b"\r\n" + BODY) for _ in range(20)]
            service.process.terminate()
        assert {answer(connection)[0].status for connection in connected} == {200}
        for connection in connected:
            connection.close()
        assert service.process.wait(60) == 0


def test_a_worker_without_its_master_refuses_connections_while_it_still_answers(checkout):
    with Service(checkout, KONER_GRACE="3600") as service, begin(service) as running:
        (worker,) = service.process.children()
        service.process.kill()
        service.process.wait()
        deadline = time.monotonic() + 60
        while not refuses(service):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert answer(running, BODY)[0].status == 200
        psutil.wait_procs([worker], timeout=60)
        assert not worker.is_running()
