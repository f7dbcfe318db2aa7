import json
import re
from pathlib import Path

import pytest
import schemathesis
from schemathesis.config import OperationConfig
from schemathesis.engine import Status, events, from_schema

from app.problems import MEDIA_TYPE
from app.schemas import build_request_type
from app.security import BASIC_PATHS, PROTECTED_PATHS
from koner.labels.label_set import LabelSet
from koner.labels.styles import read_styles

# A schema can't say which texts are labelling configs, so these operations refuse most of what it allows.
WITH_CONFIG = {
    "include-path": ["/setup", "/predict"],
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 422]}},
}


@pytest.fixture(scope="module")
def limited_app(create_client):
    """An application with low limits."""
    return create_client(max_text=100, max_texts=3).application


def test_responses_conform_to_the_document(limited_app):
    """Run all test phases and checks of schemathesis on every operation.

    This calls its engine, because its pytest fixtures (4.32) fail with pytest 9.2.
    """
    document = schemathesis.openapi.from_wsgi("/openapi.json", limited_app)
    document.config.seed = 1
    document.config.generation.update(max_examples=40)
    document.config.operations.operations.append(OperationConfig.from_dict(WITH_CONFIG))
    all_events = list(from_schema(document).execute())
    assert [event for event in all_events if isinstance(event, events.NonFatalError | events.FatalError)] == []
    scenarios = [event for event in all_events if isinstance(event, events.ScenarioFinished)]
    failures = [
        (node.value.as_curl_command(), check.name, check.failure_info.failure.message)
        for scenario in scenarios
        for case, node in scenario.recorder.cases.items()
        for check in scenario.recorder.checks.get(case, ())
        if check.failure_info
    ]
    assert failures == []
    tested = {scenario.label for scenario in scenarios if scenario.status == Status.SUCCESS}
    assert tested == {operation.ok().label for operation in document.get_all_operations()}
    assert "POST /infer" in tested


def test_every_error_is_documented_as_a_problem(client):
    document = client.get("/openapi.json").json
    operations = [(path, method, o) for path, item in document["paths"].items() for method, o in item.items()]
    for path, method, operation in operations:
        errors = {status: response for status, response in operation["responses"].items() if not status.startswith("2")}
        assert "500" in errors, (path, method)
        for response in errors.values():
            assert list(response["content"]) == [MEDIA_TYPE]
            assert response["description"]
    assert {"400", "401", "413", "415", "422", "500", "503"} <= document["paths"]["/infer"]["post"]["responses"].keys()


def test_the_document_has_the_limits(limited_app):
    response = limited_app.test_client().get("/openapi.json")
    assert response.mimetype == "application/json"
    one, many = response.json["components"]["schemas"]["InferRequest"]["properties"]["text"]["oneOf"]
    assert (one["maxLength"], many["maxItems"], many["items"]["maxLength"]) == (100, 3, 100)
    # Hangul is not escaped.
    assert "이순신".encode() in response.data


def test_the_document_has_the_types_of_the_model(client):
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    order = ["PS", "LC", "OG", "DT", "TI", "QT"]
    assert schemas["AnswerEntity"]["properties"]["entity_group"]["enum"] == order
    requested = schemas["InferRequest"]["properties"]["labels"]
    assert (requested["items"]["enum"], requested["default"], requested["maxItems"]) == (order, order, 6)
    names = "PS (person), LC (location), OG (organization), DT (date), TI (time) or QT (quantity)"
    assert requested["description"] == f"a list of types of entities: {names}"


def test_a_request_without_labels_copies_no_list_of_them():
    styles = read_styles(Path("labels.yaml"), LabelSet(tuple(f"T{i}" for i in range(142))))
    assert build_request_type(100, 3, styles).model_validate({"text": "서울"}).labels is None


def test_the_examples_of_labelling_configs_are_accepted(client):
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    for path, name in (("/setup", "SetupRequest"), ("/predict", "PredictRequest")):
        assert client.post(path, json=schemas[name]["example"]).status_code == 200


def test_the_document_describes_the_tokens(create_client, client):
    document = create_client(tokens="secret").get("/openapi.json").json
    protected_paths = {path for path, item in document["paths"].items() for o in item.values() if o.get("security")}
    assert protected_paths == PROTECTED_PATHS
    assert document["components"]["securitySchemes"] == {
        scheme: {"type": "http", "scheme": scheme} for scheme in ("bearer", "basic")
    }
    for path in PROTECTED_PATHS:
        for operation in document["paths"][path].values():
            assert ({"basic": []} in operation["security"]) == (path in BASIC_PATHS)
    assert "securit" not in json.dumps(client.get("/openapi.json").json)


def test_the_document_names_the_prefix(create_client, client):
    prefixed = create_client(prefix="/ner/v1")
    # The proxy may remove the prefix or leave it.
    for path in ("/openapi.json", "/ner/v1/openapi.json"):
        assert prefixed.get(path).json["servers"] == [{"url": "/ner/v1"}]
    assert (
        prefixed.post("/ner/v1/infer", json={"text": "서울"}).json
        == prefixed.post("/infer", json={"text": "서울"}).json
    )
    assert (
        prefixed.get("/ner/v1/none").json["detail"]
        == "There is no resource at /none; /ner/v1/docs lists the endpoints."
    )
    assert prefixed.get("/ner/v10/healthz").status_code == 404
    assert "servers" not in client.get("/openapi.json").json
    assert client.get("/ner/v1/healthz").status_code == 404


def test_the_documentation_page_loads_only_local_files(client):
    page = client.get("/docs")
    assert page.mimetype == "text/html"
    assert "://" not in page.text
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert client.get(f"/{link}").status_code == 200
    assert '"openapi.json"' in page.text
