import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from koner.inference.tagger import Tagger
from koner.release.hashing import folder_hash
from tests.app.damage import Damage, reload_service
from tests.app.gunicorn_service import (
    BODY,
    HEAD,
    ROOT,
    TEXTS,
    Load,
    Service,
    finish_request,
    make_checkout,
    open_accepted_request,
    open_request,
    write_lock,
    write_model,
)


@pytest.fixture
def checkout(tmp_path):
    return make_checkout(tmp_path)


def expected_entities(folder):
    """Return the entities that a model entities in each text, without their scores."""
    tagged_texts = Tagger.load(folder, device="cpu", threads=1).tag_all(TEXTS)
    return {
        text: [(entity.start, entity.end, entity.label) for entity in tagged_text.entities]
        for text, tagged_text in zip(TEXTS, tagged_texts, strict=True)
    }


def entities_of(body):
    return [(entity["start"], entity["end"], entity["entity_group"]) for entity in json.loads(body)["result"]]


def test_a_locked_model_is_served(checkout):
    pinned_hash = folder_hash(checkout / "models/ner")
    entities = expected_entities(checkout / "models/ner")
    # With two threads, a worker loads its own model.
    with Service(checkout, KONER_THREADS="2", KONER_LOG_TEXT="1") as service:
        assert len(service.model_copies()) == 1
        for text in TEXTS[:4]:
            response, body = service.infer(text)
            assert (response.status, response.headers["X-Koner-Model"]) == (200, pinned_hash)
            assert entities_of(body) == entities[text]
        assert any(entities[text] for text in TEXTS[:4])
        message = f"koner: serving models/ner, {pinned_hash}, the locked model; (.*)"
        assert service.find_messages(message) == ["workers: 1, runtime: ONNX Runtime fp32, 2 threads"]
        assert service.stop() == 0
    lines = [json.loads(line) for line in service.stdout.read_text(encoding="utf-8").splitlines()]
    assert [line["path"] for line in lines] == ["/readyz", *["/infer"] * 4]
    assert lines[-1]["text"] == [TEXTS[3]]
    assert list(service.scratch.iterdir()) == []


def test_an_unlocked_model_is_served_if_allowed(checkout):
    write_lock(checkout, "0" * 32 + ".dir")
    with Service(checkout, KONER_ALLOW_UNLOCKED="1") as service:
        response, _ = service.infer(TEXTS[0])
        assert response.headers["X-Koner-Model"] == folder_hash(checkout / "models/ner") + "; unlocked"
        assert service.find_messages(r"\[WARNING\] koner: serving .*, NOT the locked model; ")


def start_error(checkout, **settings):
    """Return the only line that a service writes which does not start."""
    service = Service(checkout, **settings)
    assert service.process.wait() == 1
    assert service.stdout.read_text(encoding="utf-8") == ""
    (line,) = service.stderr.read_text(encoding="utf-8").splitlines()
    assert list(service.scratch.iterdir()) == []
    return line


def test_a_model_that_is_not_the_pinned_one_is_refused(checkout):
    pinned_hash = folder_hash(checkout / "models/ner")
    shutil.rmtree(checkout / "models/ner")
    model_hash = write_model(checkout / "models/ner", seed=2)
    line = start_error(checkout)
    assert line.startswith(
        f"koner: models/ner is not the model that dvc.lock pins: its hash is {model_hash}, "
        f"the pinned hash is {pinned_hash}; run `dvc checkout`"
    )


def test_a_missing_model_is_refused(checkout):
    shutil.rmtree(checkout / "models/ner")
    assert start_error(checkout).startswith("koner: models/ner is missing; run `dvc repro`")


def test_a_locked_model_that_does_not_run_is_refused(checkout):
    (checkout / "models/ner/model.onnx").write_bytes(b"no model")
    write_lock(checkout, folder_hash(checkout / "models/ner"))
    assert start_error(checkout).startswith("koner: models/ner/model.onnx can't be read as an ONNX model")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dvc.lock", b"made: 2024-99-99"),
        ("dvc.lock", None),
        ("models/ner/config.json", b"[" * 100_000),
        ("models/ner/model.onnx", None),
    ],
)
def test_a_fault_at_the_start_is_told_in_one_line(checkout, name, content):
    (checkout / name).unlink()
    if content is None:
        os.mkfifo(checkout / name)
    else:
        (checkout / name).write_bytes(content)
        if name != "dvc.lock":
            write_lock(checkout, folder_hash(checkout / "models/ner"))
    assert start_error(checkout).startswith(f"koner: {name}")


def test_a_model_that_ends_the_process_is_refused(checkout, monkeypatch):
    # Stands for a library that crashes on the model.
    (checkout / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Crash:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            os.abort()\n"
        "sys.meta_path.insert(0, Crash())\n"
    )
    line = start_error(checkout, PYTHONPATH=f"{checkout}:{ROOT}")
    assert line == "koner: models/ner cannot be run: the process that tried it died (signal 6)"


def test_a_port_in_use_is_refused(checkout):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = start_error(checkout, PORT=str(port))
    assert (
        line == f"koner: HOST 127.0.0.1, PORT {port}: the service cannot listen on this address: Address already in use"
    )


def test_a_stop_during_the_start_leaves_no_files_behind(checkout):
    service = Service(checkout)
    service.wait(lambda: list(service.scratch.glob("koner-*")))
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) in (0, 128 + signal.SIGTERM)
    assert not list(service.scratch.iterdir())


def test_metrics_are_summed_over_the_workers(checkout):
    with Service(checkout, WORKERS="2") as service:
        pids = sorted(service.wait(lambda: len(service.worker_pids()) == 2 and service.worker_pids()))
        before = service.samples()
        for pid in pids:
            # The other worker handles all requests meanwhile.
            with service.suspended(pid):
                for text in TEXTS[:3]:
                    service.infer(text)
        after = service.samples()
        key = ("koner_requests_total", "POST", "/infer", "200")
        assert after[key] - before.get(key, 0) == 6
        assert after["koner_batch_windows_sum",] - before["koner_batch_windows_sum",] == 6
        assert after["koner_model_info", folder_hash(checkout / "models/ner"), "true"] == 1
        assert after["koner_queue_tokens",] == 0


def test_a_killed_worker_loses_only_its_own_requests(checkout):
    pinned_hash = folder_hash(checkout / "models/ner")
    with Service(checkout, WORKERS="2") as service:
        before = service.wait(lambda: len(service.worker_pids()) == 2 and service.worker_pids())
        assert service.model_copies() == []
        # As during `dvc repro`: the new worker must not need the folder.
        shutil.rmtree(checkout / "models/ner")
        with Load(service) as load:
            victim = psutil.Process(min(before))
            victim.kill()
            psutil.wait_procs([victim])
            killed_time = time.monotonic()
            load.wait_for_responses()
            after = service.wait(
                lambda: service.worker_pids() - before and len(service.worker_pids()) == 2 and service.worker_pids()
            )
            load.wait_for_responses()
        assert len(after - before) == 1
        with service.suspended(*(after & before)):
            assert service.infer(TEXTS[0])[0].status == 200
        assert all(start < killed_time for start in load.failures)
        assert len(load.failures) <= len(load.threads)
        assert {(status, model) for _, _, status, model, _ in load.responses} == {(200, pinned_hash)}


def test_sighup_replaces_the_model_without_a_failed_request(checkout):
    model_folder = checkout / "models/ner"
    old = folder_hash(model_folder)
    new = write_model(checkout / "new", seed=2)
    entities = {old: expected_entities(model_folder), new: expected_entities(checkout / "new")}
    assert entities[old] != entities[new]
    with Service(checkout, WORKERS="2") as service, Load(service) as load:

        def reload_model():
            """Send SIGHUP, wait for the new workers, and return the time."""
            before = service.worker_pids()
            service.process.send_signal(signal.SIGHUP)
            service.wait(lambda: len(service.worker_pids() - before) == 2 and not service.worker_pids() & before)
            load.wait_for_responses()
            return time.monotonic()

        service.wait(lambda: len(service.worker_pids()) == 2)
        shutil.rmtree(model_folder)
        shutil.copytree(checkout / "new", model_folder)
        refusal_time = reload_model()
        message = "koner: the previous model stays in service: models/ner is not the model that dvc.lock pins"
        assert service.find_messages(f"{message}: its hash is {new}, .* {old}")
        load.wait_for_responses()
        write_lock(checkout, new)
        replacement_time = reload_model()
        load.wait_for_responses()
        # The gauges of the old workers are removed.
        service.wait(
            lambda: [k for k in service.samples() if k[0] == "koner_model_info"] == [("koner_model_info", new, "true")]
        )
    assert load.failures == []
    for start, text, status, model, body in load.responses:
        assert status == 200
        if start > replacement_time:
            assert model == new
        elif start > refusal_time:
            assert model in (old, new)
        else:
            assert model == old
        assert entities_of(body) == entities[model][text]
    assert {model for *_, model, _ in load.responses} == {old, new}


def test_damaged_models_are_refused_and_the_old_one_stays(tmp_path):
    # As gunicorn's configuration sets them, so that this process can load a model.
    settings = {"KONER_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.app.damage", "60"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 30


def test_the_service_answers_while_damaged_models_are_reloaded(checkout):
    pinned_hash = folder_hash(checkout / "models/ner")
    with Service(checkout, WORKERS="2") as service:
        damage = Damage(checkout, seed=0)
        refused, answers = reload_service(service, damage, count=6)
        assert refused > 2
        assert answers > 0
        before = service.worker_pids()
        damage.restore()
        (checkout / "dvc.lock").write_text("made: 2024-99-99")
        service.process.send_signal(signal.SIGHUP)
        service.wait(lambda: len(service.worker_pids() - before) == 2 and not service.worker_pids() & before)
        sentence = "dvc.lock, line 1: not valid YAML: '2024-99-99' can't be read as a value of type timestamp"
        assert service.find_messages(f"koner: the previous model stays in service: {sentence}")
        for pid in service.worker_pids():
            with service.suspended(pid):
                # The other worker answers.
                version = json.loads(service.get("/version")[1])
                assert version["refusal"].startswith(sentence)
                assert version["model"]["locked"]
                assert service.samples()["koner_reload_refused",] == 1
        write_lock(checkout, pinned_hash)
        service.process.send_signal(signal.SIGHUP)
        service.wait(lambda: json.loads(service.get("/version")[1])["refusal"] is None)
        service.wait(lambda: service.samples()["koner_reload_refused",] == 0)
        assert service.get("/version")[0].headers["X-Koner-Model"] == pinned_hash


def refuses_connections(service):
    try:
        socket.create_connection(("127.0.0.1", service.port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_running_requests_finish(checkout):
    entities = expected_entities(checkout / "models/ner")
    with Service(checkout) as service:
        waiting = [open_request(service, b"GET /rea") for _ in range(30)]
        # The worker accepts connections in order, so it has accepted the waiting ones too.
        running = [open_accepted_request(service) for _ in range(4)]
        service.process.terminate()
        statuses = []
        while 503 not in statuses:
            statuses.append(finish_request(waiting.pop(), b"dyz HTTP/1.1\r\nHost: a\r\n\r\n")[0].status)
            time.sleep(0.1)
        assert set(statuses) <= {200, 503}
        for connection in running:
            response, body = finish_request(connection, BODY)
            assert response.status == 200
            assert entities_of(body) == entities[TEXTS[0]]
        for connection in [*waiting, *running]:
            connection.close()
        assert service.process.wait() == 0


def test_a_stopping_service_refuses_connections_but_finishes_its_requests(checkout):
    with Service(checkout, WORKERS="2") as service:
        service.wait(lambda: len(service.worker_pids()) == 2)
        with open_accepted_request(service) as running:
            service.process.terminate()
            service.wait(lambda: refuses_connections(service))
            assert finish_request(running, BODY)[0].status == 200
        assert service.process.wait(60) == 0


def test_connections_before_a_stop_are_answered(checkout):
    with Service(checkout) as service:
        (pid,) = service.worker_pids()
        with service.suspended(pid):
            # The kernel completes the connections; the worker has not accepted them yet.
            connections = [open_request(service, HEAD + b"\r\n" + BODY) for _ in range(20)]
            service.process.terminate()
        assert {finish_request(connection)[0].status for connection in connections} == {200}
        for connection in connections:
            connection.close()
        assert service.process.wait(60) == 0


def test_a_worker_whose_master_died_refuses_connections_but_finishes_its_requests(checkout):
    with Service(checkout, KONER_GRACE="3600") as service, open_accepted_request(service) as running:
        (worker,) = service.process.children()
        service.process.kill()
        service.process.wait()
        deadline = time.monotonic() + 60
        while not refuses_connections(service):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert finish_request(running, BODY)[0].status == 200
        psutil.wait_procs([worker], timeout=60)
        assert not worker.is_running()
        assert list(service.scratch.iterdir()) == []
