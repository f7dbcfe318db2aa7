import copy
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from app.operations import STOPPING
from app.settings import Settings
from koner import __version__
from koner.errors import KonerError
from koner.labels import TYPES
from koner.locking import folder_hash

pytest_plugins = ["tests.app_fixtures"]

TEXTS = ["홍길동이 서울에서 3명을 만났다.", "정부는 지난해 부산에 갔다."]
FIGURES = '{"span": {"f1": 0.5}}'


@pytest.fixture
def checkout(tiny_model, tmp_path):
    """A checkout, without Git, whose lock file pins the model and its figures."""
    shutil.copytree(tiny_model, tmp_path / "models/ner")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/evaluate.json").write_text(FIGURES, encoding="utf-8")
    outs = "".join(
        f"    - path: {path}\n      md5: {folder_hash(tmp_path / path)}\n"
        for path in ("models/ner", "metrics/evaluate.json")
    )
    (tmp_path / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  all:\n    outs:\n{outs}", encoding="utf-8")
    return tmp_path


def client_of(checkout, tagger, **settings):
    settings = {"model": checkout / "models/ner", "lock": checkout / "dvc.lock", **settings}
    return create_app(Settings(**settings), tagger).test_client()


def samples(client):
    """The samples of /metrics, by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def growth(client, action):
    """By how much the samples of /metrics grow with an action."""
    before = samples(client)
    action()
    return {key: value - before.get(key, 0) for key, value in samples(client).items() if value != before.get(key, 0)}


def test_alive_and_ready(client):
    assert client.get("/healthz").json == {"status": "alive"}
    assert client.get("/readyz").json == {"status": "ready"}


def test_a_service_that_stops_lives_but_is_not_ready(checkout, tagger):
    client = client_of(checkout, tagger)
    client.application.config[STOPPING] = lambda: True
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert answer.json["detail"] == "The service is stopping."


def test_version_tells_what_is_served(checkout, tagger):
    for command in (
        ["init", "-q"],
        ["add", "dvc.lock"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    revision = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=checkout, text=True).strip()
    found = folder_hash(checkout / "models/ner")
    answer = client_of(checkout, tagger).get("/version")
    assert answer.json == {
        "version": __version__,
        "revision": revision,
        "model": {"hash": found, "pinned": found, "locked": True, "labels": list(TYPES)},
        "runtime": tagger.runtime.description,
        "metrics": {"span": {"f1": 0.5}},
    }
    assert answer.headers["X-Koner-Model"] == found


def test_every_answer_names_the_model(client, tiny_model):
    for path, status in (("/", 200), ("/healthz", 200), ("/nowhere", 404), ("/infer", 405), ("/docs", 200)):
        answer = client.get(path)
        assert answer.status_code == status
        assert answer.headers["X-Koner-Model"] == f"{folder_hash(tiny_model)}; unlocked"


def test_a_model_that_is_not_the_pinned_one_is_refused_or_named(checkout, tagger):
    pinned = folder_hash(checkout / "models/ner")
    (checkout / "models/ner/README.md").write_text("changed", encoding="utf-8")
    found = folder_hash(checkout / "models/ner")
    with pytest.raises(KonerError, match=f"is not what .* pins: its hash is {found}, the pinned one {pinned}"):
        client_of(checkout, tagger)
    answer = client_of(checkout, tagger, allow_unlocked=True).get("/version")
    assert answer.headers["X-Koner-Model"] == f"{found}; unlocked"
    model = answer.json["model"]
    assert (model["hash"], model["pinned"], model["locked"]) == (found, pinned, False)
    # The figures are of the pinned one.
    assert answer.json["metrics"] is None


def test_figures_that_the_lock_does_not_pin_are_not_told(checkout, tagger):
    (checkout / "metrics/evaluate.json").write_text('{"span": {"f1": 1.0}}', encoding="utf-8")
    assert client_of(checkout, tagger).get("/version").json["metrics"] is None
    (checkout / "metrics/evaluate.json").unlink()
    assert client_of(checkout, tagger).get("/version").json["metrics"] is None


def test_requests_are_counted_by_path_method_and_status(client):
    def ask():
        client.post("/infer", json={"text": TEXTS})
        client.post("/infer", json={"text": ""})
        client.get("/static/page.js")
        client.get("/static/page.css")
        client.get("/nowhere/1")
        client.get("/nowhere/2")
        client.open("/healthz", method="MADEUP")

    grown = growth(client, ask)
    requests = {key[1:]: value for key, value in grown.items() if key[0] == "koner_requests_total"}
    # What a client can make up is no label of its own.
    assert requests == {
        ("POST", "/infer", "200"): 1,
        ("POST", "/infer", "422"): 1,
        ("GET", "/static/<path:filename>", "200"): 2,
        ("GET", "none", "404"): 2,
        ("other", "none", "405"): 1,
        # The first of the two times that the samples were asked for.
        ("GET", "/metrics", "200"): 1,
    }
    assert grown["koner_request_seconds_count", "/infer"] == 2
    assert grown["koner_request_seconds_sum", "/infer"] > 0


def test_batches_and_entities_are_counted(client):
    found = {}

    def ask():
        for answer in client.post("/infer", json={"text": TEXTS}).json:
            for entity in answer["result"]:
                found[entity["entity_group"]] = found.get(entity["entity_group"], 0) + 1

    grown = growth(client, ask)
    assert {key[1]: value for key, value in grown.items() if key[0] == "koner_entities_total"} == found
    assert found
    tagger = client.application.extensions["koner"].tagger
    windows = [window for text in tagger.encode(TEXTS) for window in text.windows]
    assert grown["koner_batch_windows_sum",] == len(windows)
    assert grown["koner_batch_tokens_sum",] == sum(map(len, windows))
    assert 1 <= grown["koner_batch_seconds_count",] <= len(windows)


def test_what_waits_and_what_is_refused_shows(checkout, tagger):
    """With a model that waits for leave to go on, one request in it and one in a queue that is then full."""
    running, leave = threading.Event(), threading.Event()
    slow = copy.copy(tagger)
    client = client_of(checkout, slow, queue_tokens=1)

    def run(windows):
        running.set()
        leave.wait()
        return tagger.run(windows)

    slow.run = run
    batcher = client.application.extensions["koner"].batcher
    with ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(client.application.test_client().post, "/infer", json={"text": TEXTS[0]})
            running.wait()
            second = threads.submit(client.application.test_client().post, "/infer", json={"text": TEXTS[1]})
            while not batcher.queued_tokens:
                time.sleep(0.001)
            before = samples(client)
            refused = client.post("/infer", json={"text": TEXTS[0]})
            after = samples(client)
        finally:
            leave.set()
        assert (refused.status_code, first.result().status_code, second.result().status_code) == (503, 200, 200)
    assert after["koner_rejected_total",] - before["koner_rejected_total",] == 1
    assert after["koner_queue_tokens",] == sum(len(w) for w in tagger.encode(TEXTS[1:])[0].windows)
    assert samples(client)["koner_queue_tokens",] == 0


def test_the_model_in_service_shows(checkout, tagger):
    client = client_of(checkout, tagger)
    assert samples(client)["koner_model_info", folder_hash(checkout / "models/ner"), "true"] == 1


def test_metrics_are_in_the_text_format_of_prometheus(client):
    answer = client.get("/metrics")
    assert answer.mimetype == "text/plain"
    assert answer.text.endswith("\n")
    for line in answer.text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or len(line.rsplit(" ", 1)) == 2


def test_operations_are_documented(client):
    paths = client.get("/openapi.json").json["paths"]
    assert {"/healthz", "/readyz", "/version", "/metrics"} <= set(paths)
    assert {"200", "503"} <= set(paths["/readyz"]["get"]["responses"])
