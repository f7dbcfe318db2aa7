import json
from html.parser import HTMLParser

import pytest
from flask import Flask

from app.page import LANGUAGES, blueprint
from app.schemas import LABELS


@pytest.fixture(scope="module")
def client():
    """Of an application that has the page alone: nothing in it hangs on the model."""
    app = Flask("app")
    app.register_blueprint(blueprint)
    return app.test_client()


class Elements(HTMLParser):
    """The elements of a page as (name, attributes), and its text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def by_id(self, id_):
        return next(attributes for _, attributes in self.found if attributes.get("id") == id_)


def language_of(client, header=None, query=""):
    response = client.get(f"/{query}", headers={"Accept-Language": header} if header else {})
    assert response.status_code == 200
    assert response.headers["Content-Language"] == dict(Elements(response.text).found)["html"]["lang"]
    assert "Accept-Language" in response.vary
    return response.headers["Content-Language"]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("en", "en"),
        ("en-US,ko;q=0.8", "en"),
        ("en;q=0.5,ko;q=0.6", "ko"),
        ("fr-FR,ko;q=0.3", "ko"),
        ("ko;q=0,en;q=0.1", "en"),
        ("fr", "en"),
        ("*", "en"),
        ("kok", "en"),
        (";;q=,ko-", "ko"),
        (None, "en"),
    ],
)
def test_the_language_is_the_first_that_the_visitor_reads(client, header, language):
    assert language_of(client, header) == language


def test_the_link_to_the_other_language_overrides_the_header(client):
    for asked, header in (("en", "ko"), ("ko", "en")):
        page = Elements(client.get("/", headers={"Accept-Language": header}).text)
        link = next(a for tag, a in page.found if tag == "a" and "hreflang" in a)
        assert link["href"] == f"?lang={asked}"
        assert link["lang"] == link["hreflang"] == asked
        assert language_of(client, header, link["href"]) == asked
    assert language_of(client, "ko", "?lang=fr") == "ko"
    assert language_of(client, "ko", "?lang=<script>") == "ko"


def shape(value):
    return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else type(value)


def test_both_languages_say_everything(client):
    with client.application.app_context():
        words = client.application.jinja_env.get_template("words.html").module.words
    assert tuple(words) == LANGUAGES
    assert shape(words["ko"]) == shape(words["en"])
    for say in words.values():
        assert tuple(say["names"]) == LABELS
    for key, korean in words["ko"]["messages"].items():
        english = words["en"]["messages"][key]
        assert sorted(p.split("}")[0] for p in korean.split("{")[1:]) == sorted(
            p.split("}")[0] for p in english.split("{")[1:]
        ), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_keeps_to_a_policy_without_inline_code(client, language):
    page = Elements(client.get(f"/?lang={language}").text)
    for tag, attributes in page.found:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in {"src", "href", "action"} & set(attributes):
            assert "//" not in attributes[name]
            assert not attributes[name].startswith(("data:", "javascript:"))
    scripts = [attributes for tag, attributes in page.found if tag == "script"]
    assert [set(attributes) for attributes in scripts] == [{"type", "src"}]
    for tag, name in (("script", "src"), ("link", "href")):
        for attributes in (a for t, a in page.found if t == tag):
            with client.get(attributes[name]) as response:
                assert response.status_code == 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_labelled_for_those_who_dont_see_it(client, language):
    page = Elements(client.get(f"/?lang={language}").text)
    labelled = {attributes["for"] for tag, attributes in page.found if tag == "label"}
    assert {a["id"] for tag, a in page.found if tag in ("textarea", "input")} == labelled
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.found:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids
    assert page.by_id("error")["role"] == "alert"
    assert page.by_id("summary")["role"] == "status"
    assert "noscript" in dict(page.found)
    for label in LABELS:
        assert label in page.text


def test_the_script_gets_its_words_and_korean_examples(client):
    form = Elements(client.get("/?lang=en").text).by_id("form")
    assert json.loads(form["data-messages"])["none"] == "No entities found."
    examples = json.loads(form["data-examples"])
    assert any("\n" in example for example in examples)
    assert all(any("가" <= character <= "힣" for character in example) for example in examples)


def test_the_page_works_below_a_prefix(client):
    page = client.get("/", base_url="http://localhost/ner/")
    assert 'src="/ner/static/page.js"' in page.text
    assert 'action="infer"' in page.text
