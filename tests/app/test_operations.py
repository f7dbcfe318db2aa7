import shutil
import subprocess

import pytest

from app.operations import IS_STOPPING
from koner import __version__
from koner.drift.statistics import TextStatistics
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.release.hashing import folder_hash
from tests.app.prometheus import parse_samples

TEXTS = ["홍길동이 서울에서 3명을 만났다.", "정부는 지난해 부산에 갔다."]
METRICS = '{"span": {"f1": 0.5}}'


@pytest.fixture
def pinned_checkout(tiny_model, tmp_path):
    """A checkout without Git, whose lock file pins the tiny model and its metrics."""
    shutil.copytree(tiny_model, tmp_path / "models/ner")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/evaluate.json").write_text(METRICS, encoding="utf-8")
    outs = "".join(
        f"    - path: {path}\n      md5: {folder_hash(tmp_path / path)}\n"
        for path in ("models/ner", "metrics/evaluate.json")
    )
    (tmp_path / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  all:\n    outs:\n{outs}", encoding="utf-8")
    return tmp_path


@pytest.fixture
def create_pinned_client(pinned_checkout, create_client):
    """A function that creates a client of an application with the model of the checkout."""

    def create(**settings):
        paths = {"model": pinned_checkout / "models/ner", "lock": pinned_checkout / "dvc.lock"}
        return create_client(**{**paths, "allow_unlocked": False, **settings})

    return create


def read_samples(client):
    return parse_samples(client.get("/metrics").text)


def measure_growth(client, action):
    """Return by how much each sample of /metrics grows with an action."""
    before = read_samples(client)
    action()
    after = read_samples(client)
    return {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}


def test_health_and_readiness(client):
    assert client.get("/healthz").json == {"status": "alive"}
    assert client.get("/readyz").json == {"status": "ready"}


def test_a_service_that_shuts_down_is_alive_but_not_ready(create_client):
    client = create_client()
    client.application.config[IS_STOPPING] = lambda: True
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert (response.status_code, response.mimetype) == (503, "application/problem+json")
    assert response.json["detail"] == "The service is shutting down."


def test_version_describes_the_model(pinned_checkout, create_pinned_client, tagger):
    for command in (
        ["init", "-q"],
        ["add", "dvc.lock"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *command], cwd=pinned_checkout, check=True)
    revision = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=pinned_checkout, text=True).strip()
    model_hash = folder_hash(pinned_checkout / "models/ner")
    response = create_pinned_client().get("/version")
    assert response.json == {
        "version": __version__,
        "revision": revision,
        "model": {"hash": model_hash, "pinned": model_hash, "locked": True, "labels": list(KLUE.types)},
        "runtime": tagger.runtime.description,
        "refusal": None,
        "metrics": {"span": {"f1": 0.5}},
    }
    assert response.headers["X-Koner-Model"] == model_hash


def test_every_response_names_the_model(client, tiny_model):
    for path, status in (("/", 200), ("/healthz", 200), ("/nowhere", 404), ("/infer", 405), ("/docs", 200)):
        response = client.get(path)
        assert response.status_code == status
        assert response.headers["X-Koner-Model"] == f"{folder_hash(tiny_model)}; unlocked"


def test_an_unlocked_model_is_refused_or_marked_as_unlocked(pinned_checkout, create_pinned_client):
    pinned_hash = folder_hash(pinned_checkout / "models/ner")
    (pinned_checkout / "models/ner/README.md").write_text("changed", encoding="utf-8")
    model_hash = folder_hash(pinned_checkout / "models/ner")
    message = f"is not the model that .* pins: its hash is {model_hash}, the pinned hash is {pinned_hash}"
    with pytest.raises(KonerError, match=message):
        create_pinned_client()
    response = create_pinned_client(allow_unlocked=True).get("/version")
    assert response.headers["X-Koner-Model"] == f"{model_hash}; unlocked"
    model = response.json["model"]
    assert (model["hash"], model["pinned"], model["locked"]) == (model_hash, pinned_hash, False)
    # The metrics are those of the pinned model.
    assert response.json["metrics"] is None


def test_metrics_that_the_lock_file_does_not_pin_are_not_reported(pinned_checkout, create_pinned_client):
    metrics_file = pinned_checkout / "metrics/evaluate.json"
    metrics_file.write_text('{"span": {"f1": 1.0}}', encoding="utf-8")
    assert create_pinned_client().get("/version").json["metrics"] is None
    metrics_file.unlink()
    assert create_pinned_client().get("/version").json["metrics"] is None


def test_requests_are_counted_by_path_method_and_status(client):
    def send_requests():
        client.post("/infer", json={"text": TEXTS})
        client.post("/infer", json={"text": ""})
        client.get("/static/page.js")
        client.get("/static/page.css")
        client.get("/nowhere/1")
        client.get("/nowhere/2")
        client.open("/healthz", method="MADEUP")

    growth = measure_growth(client, send_requests)
    requests = {key[1:]: value for key, value in growth.items() if key[0] == "koner_requests_total"}
    # Unknown paths and methods, which clients can invent, have no label of their own.
    assert requests == {
        ("POST", "/infer", "200"): 1,
        ("POST", "/infer", "422"): 1,
        ("GET", "/static/<path:filename>", "200"): 2,
        ("GET", "none", "404"): 2,
        ("other", "none", "405"): 1,
        # The first of the two requests that measure the growth.
        ("GET", "/metrics", "200"): 1,
    }
    assert growth["koner_request_seconds_count", "/infer"] == 2
    assert growth["koner_request_seconds_sum", "/infer"] > 0


def test_batches_and_entities_are_counted(client):
    entities = {}

    def send_request():
        for answer in client.post("/infer", json={"text": TEXTS}).json:
            for entity in answer["result"]:
                entities[entity["entity_group"]] = entities.get(entity["entity_group"], 0) + 1

    growth = measure_growth(client, send_request)
    assert {key[1]: value for key, value in growth.items() if key[0] == "koner_entities_total"} == entities
    assert entities
    tagger = client.application.extensions["koner"].tagger
    windows = [window for text in tagger.encode(TEXTS) for window in text.windows]
    assert growth["koner_batch_windows_sum",] == len(windows)
    assert growth["koner_batch_tokens_sum",] == sum(map(len, windows))
    assert 1 <= growth["koner_batch_seconds_count",] <= len(windows)


def test_what_drift_compares_is_counted(client):
    texts = [*TEXTS, "𒀀 서울"]
    tagger = client.application.extensions["koner"].tagger
    growth = measure_growth(client, lambda: client.post("/infer", json={"text": texts}))
    statistics = TextStatistics()
    statistics.add(tagger, texts)
    assert growth["koner_characters_total",] == statistics.characters
    assert growth["koner_tokens_total",] == statistics.tokens
    assert growth["koner_unknown_tokens_total",] == statistics.unknown_tokens > 0
    assert growth["koner_text_score_count",] == len(texts)
    assert growth["koner_text_score_sum",] == pytest.approx(sum(statistics.scores))


def test_waiting_tokens_and_rejected_requests_are_reported(full_service, tagger):
    client = full_service.client
    before = read_samples(client)
    response = client.post("/infer", json={"text": TEXTS[0]})
    after = read_samples(client)
    assert response.status_code == 503
    assert full_service.finish() == [200, 200]
    assert after["koner_rejected_total",] - before["koner_rejected_total",] == 1
    (waiting_text,) = tagger.encode([full_service.WAITING_TEXT])
    assert after["koner_queue_tokens",] == sum(map(len, waiting_text.windows))
    assert read_samples(client)["koner_queue_tokens",] == 0


def test_the_model_in_service_is_a_metric(pinned_checkout, create_pinned_client):
    samples = read_samples(create_pinned_client())
    assert samples["koner_model_info", folder_hash(pinned_checkout / "models/ner"), "true"] == 1


def test_metrics_are_in_the_text_format_of_prometheus(client):
    response = client.get("/metrics")
    assert response.mimetype == "text/plain"
    assert response.text.endswith("\n")
    for line in response.text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or len(line.rsplit(" ", 1)) == 2


def test_operations_are_documented(client):
    paths = client.get("/openapi.json").json["paths"]
    assert {"/healthz", "/readyz", "/version", "/metrics"} <= set(paths)
    assert {"200", "503"} <= set(paths["/readyz"]["get"]["responses"])
