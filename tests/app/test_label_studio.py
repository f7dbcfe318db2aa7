"""Label Studio's protocol of ML backends; tests/annotation/test_real_label_studio.py has the real Label Studio."""

import base64
import json
import logging

import pytest

from koner.annotation.label_studio import Control, name_version, prediction, write_label_config
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.labels.styles import read_styles

TEXT = "😀 홍길동이 <b>서울</b>에서 &lt;3명&gt;을 만났다."
CONFIG = write_label_config(read_styles(None, KLUE))


def predict(client, tasks, config=CONFIG, **headers):
    # The fields that Label Studio sends beside those that are needed.
    more = {"project": "1.1700000000", "params": {"login": None, "password": None, "context": None}}
    return client.post("/predict", json={"tasks": tasks, "label_config": config, **more}, headers=headers)


def tasks_of(*texts, field="text"):
    return [{"id": i, "data": {field: text}, "meta": {}, "project": 1} for i, text in enumerate(texts, start=7)]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "gunicorn.error"]


@pytest.fixture
def version(app):
    return name_version(app.extensions["koner"].model.hash)


def test_predictions_are_those_of_the_tagger(client, tagger, version):
    texts = [TEXT, "", "서울", TEXT * 9]
    response = predict(client, tasks_of(*texts))
    assert response.status_code == 200
    expected = [prediction(text, tagger.tag(text), model_version=version) for text in texts]
    for given, wanted in zip(response.json["results"], expected, strict=True):
        assert given == {**wanted, "score": given["score"], "result": given["result"]}
        assert given["score"] == (pytest.approx(wanted["score"], abs=1e-4) if wanted["result"] else None)
        assert [{**r, "score": 0} for r in given["result"]] == [{**r, "score": 0} for r in wanted["result"]]
    assert response.json["results"][0]["result"]
    for region in response.json["results"][0]["result"]:
        value = region["value"]
        assert TEXT[value["start"] : value["end"]] == value["text"] != ""


def test_names_and_labels_come_from_the_config(client, tagger, caplog):
    label = tagger.tag(TEXT)[0].label
    control = Control("ner", "sentence", "body")
    config = write_label_config(read_styles(None, LabelSet((label, "음식"))), control)
    with caplog.at_level(logging.WARNING, "gunicorn.error"):
        for _ in range(2):
            (result,) = predict(client, tasks_of(TEXT, field="body"), config).json["results"]
    names = {(r["from_name"], r["to_name"], *r["value"]["labels"]) for r in result["result"]}
    assert names == {("ner", "sentence", label)}
    others = ", ".join(name for name in KLUE.types if name != label)
    assert warnings(caplog) == [
        f"Label Studio: the labelling config lacks the model's labels {others}, which are left out; "
        "the model never predicts the labels 음식 of the labelling config."
    ]


def test_any_number_of_tasks_is_tagged_in_parts(create_client, tagger):
    texts = ["서울 부산", TEXT, "홍길동"] * 5
    tokens = max(sum(map(len, tagger.encode([text])[0].windows)) for text in texts)
    for limits in ({"max_texts": 2}, {"request_tokens": tokens}):
        results = predict(create_client(**limits), tasks_of(*texts)).json["results"]
        alone = [predict(create_client(), tasks_of(text)).json["results"][0] for text in texts[:3]] * 5
        for given, wanted in zip(results, alone, strict=True):
            assert [r["value"] for r in given["result"]] == [r["value"] for r in wanted["result"]]
    response = predict(create_client(request_tokens=tokens), tasks_of("서울", TEXT * 3))
    assert response.status_code == 422
    assert "tasks[1] has a text of " in response.json["detail"]


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"id": 3, "data": {"body": "서울"}}, "tasks[1] (id 3) has no text in data.text, the field that the"),
        ({"data": {"text": 5}}, "tasks[1] has no text in data.text"),
        ({"data": []}, "tasks[1] has no text in data.text"),
        ({}, "tasks[1] has no text in data.text"),
        (
            {"data": {"text": "가" * 10_001}},
            "tasks[1] has a text of 10001 code points; a text must have at most 10000.",
        ),
    ],
)
def test_a_task_without_a_text_is_named(client, caplog, task, sentence):
    response = predict(client, [*tasks_of("서울"), task])
    assert (response.status_code, response.mimetype) == (422, "application/problem+json")
    assert sentence in response.json["detail"]
    assert response.json["errors"][0]["pointer"] == "#/tasks/1"
    assert sentence in caplog.text


@pytest.mark.parametrize("path", ["/setup", "/predict"])
def test_a_config_without_a_text_tag_is_refused(client, caplog, path):
    field = {"/setup": "schema", "/predict": "label_config"}[path]
    response = client.post(path, json={field: "<View></View>", "tasks": []})
    sentence = f'{field}: the labelling config has no text tag, such as <Text name="text" value="$text"/>.'
    assert (response.status_code, response.json["detail"]) == (422, sentence)
    assert response.json["errors"] == [{"pointer": f"#/{field}", "detail": sentence}]
    assert warnings(caplog) == [f"Label Studio: {sentence}"]


def test_a_body_without_its_fields_is_refused(client):
    details = [
        client.post("/predict", json={"label_config": CONFIG}).json["detail"],
        client.post("/predict", json={"tasks": ["서울"], "label_config": CONFIG}).json["detail"],
        client.post("/setup", json={}).json["detail"],
        client.post("/webhook", json={"action": 1}).json["detail"],
    ]
    tasks = "a list of tasks, which are objects with `data`"
    assert details == [
        f"tasks is missing; it must be {tasks}.",
        f"tasks[0] is not valid; tasks must be {tasks}.",
        "schema is missing; it must be the labelling config of the project, as XML.",
        "action is not a string; it must be the name of the event.",
    ]


def test_label_studio_sees_a_backend(client, version):
    assert client.get("/health").json == {"status": "UP", "model_class": "koner"}
    setup = {"project": "1.17", "schema": CONFIG, "hostname": "http://a", "access_token": "t", "extra_params": None}
    assert client.post("/setup", json=setup).json == {"model_version": version}
    event = {"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "project": {"id": 1}}
    assert client.post("/webhook", json=event).status_code == 200


def test_the_texts_are_counted_and_not_logged(client, caplog):
    predict(client, tasks_of(TEXT, "서울"))
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if record.name == "koner.access"]
    assert (line["path"], line["texts"]) == ("/predict", 2)
    assert line["entities"] > 0
    assert "text" not in line


def test_a_full_queue_is_reported(full_service):
    response = predict(full_service.client, tasks_of(TEXT))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert full_service.finish() == [200, 200]


@pytest.mark.parametrize(("credentials", "status"), [("any:secret", 200), ("secret:other", 401), ("secret:", 401)])
def test_the_password_of_basic_authentication_is_the_token(create_client, credentials, status):
    client = create_client(tokens="first,secret")
    headers = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}
    assert client.get("/health", headers=headers).status_code == status
    assert predict(client, tasks_of("서울"), **headers).status_code == status
    assert client.get("/health", headers={"Authorization": "Bearer secret"}).status_code == 200
    # Other paths take bearer tokens alone.
    assert client.post("/infer", json={"text": "서울"}, headers=headers).status_code == 401
    assert client.get("/health").headers["WWW-Authenticate"] == 'Bearer realm="koner", Basic realm="koner"'
