import json
import re

import pytest
import schemathesis
from schemathesis.engine import Status, events, from_schema

from app import create_app
from app.problems import MEDIA_TYPE
from app.schemas import LABELS
from app.security import GUARDED
from app.settings import Settings
from koner.labels import TYPES

pytest_plugins = ["tests.app_fixtures"]


@pytest.fixture(scope="module")
def small(tiny_model, tagger):
    """An application whose limits are soon reached."""
    return create_app(Settings(model=tiny_model, allow_unlocked=True, max_text=100, max_texts=3), tagger)


def test_answers_are_as_documented_whatever_is_sent(small):
    """Runs all that schemathesis knows, with all of its checks, over the document's every operation.

    By its engine: its pytest fixtures (4.32) break on pytest 9.2.
    """
    document = schemathesis.openapi.from_wsgi("/openapi.json", small)
    document.config.seed = 1
    document.config.generation.update(max_examples=40)
    found = list(from_schema(document).execute())
    assert [event for event in found if isinstance(event, events.NonFatalError | events.FatalError)] == []
    scenarios = [event for event in found if isinstance(event, events.ScenarioFinished)]
    failures = [
        (node.value.as_curl_command(), check.name, check.failure_info.failure.message)
        for scenario in scenarios
        for case, node in scenario.recorder.cases.items()
        for check in scenario.recorder.checks.get(case, ())
        if check.failure_info
    ]
    assert failures == []
    tried = {scenario.label for scenario in scenarios if scenario.status == Status.SUCCESS}
    assert tried == {operation.ok().label for operation in document.get_all_operations()}
    assert "POST /infer" in tried


def test_every_error_is_documented_as_a_problem(client):
    document = client.get("/openapi.json").json
    operations = [(path, method, o) for path, item in document["paths"].items() for method, o in item.items()]
    for path, method, operation in operations:
        errors = {status: answer for status, answer in operation["responses"].items() if not status.startswith("2")}
        assert "500" in errors, (path, method)
        for answer in errors.values():
            assert list(answer["content"]) == [MEDIA_TYPE]
            assert answer["description"]
    assert {"400", "401", "413", "415", "422", "500", "503"} <= document["paths"]["/infer"]["post"]["responses"].keys()


def test_limits_stand_in_the_document(small):
    answer = small.test_client().get("/openapi.json")
    assert answer.mimetype == "application/json"
    one, many = answer.json["components"]["schemas"]["InferRequest"]["properties"]["text"]["oneOf"]
    assert (one["maxLength"], many["maxItems"], many["items"]["maxLength"]) == (100, 3, 100)
    # Hangul as it is, not escaped.
    assert "이순신".encode() in answer.data


def test_labels_are_those_of_the_library():
    assert sorted(LABELS) == sorted(TYPES)


def test_tokens_are_asked_for_in_the_document(tiny_model, tagger, client):
    guarded = create_app(Settings(model=tiny_model, allow_unlocked=True, tokens=("secret",)), tagger)
    document = guarded.test_client().get("/openapi.json").json
    asking = {path for path, item in document["paths"].items() for o in item.values() if o.get("security")}
    assert asking == GUARDED
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert "securit" not in json.dumps(client.get("/openapi.json").json)


def test_docs_bring_all_they_need(client):
    page = client.get("/docs")
    assert page.mimetype == "text/html"
    assert "://" not in page.text
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert client.get(f"/{link}").status_code == 200
    assert '"openapi.json"' in page.text
