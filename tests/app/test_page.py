import json
from html.parser import HTMLParser

import pytest

from app.page import LANGUAGES
from koner.labels.klue import KLUE

LINKS = ("href", "src", "action")


class ParsedPage(HTMLParser):
    """The elements of a page as tuples (name, attributes), and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def by_id(self, id_):
        return next(attributes for _, attributes in self.elements if attributes.get("id") == id_)


def language_of(client, header=None, query=""):
    response = client.get(f"/{query}", headers={"Accept-Language": header} if header else {})
    assert response.status_code == 200
    assert response.headers["Content-Language"] == dict(ParsedPage(response.text).elements)["html"]["lang"]
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
def test_the_page_has_the_preferred_language(client, header, language):
    assert language_of(client, header) == language


def test_the_link_to_the_other_language_overrides_the_header(client):
    for language, header in (("en", "ko"), ("ko", "en")):
        page = ParsedPage(client.get("/", headers={"Accept-Language": header}).text)
        link = next(a for tag, a in page.elements if tag == "a" and "hreflang" in a)
        assert link["href"] == f"?lang={language}"
        assert link["lang"] == link["hreflang"] == language
        assert language_of(client, header, link["href"]) == language
    assert language_of(client, "ko", "?lang=fr") == "ko"
    assert language_of(client, "ko", "?lang=<script>") == "ko"


def structure(value):
    return {key: structure(inner) for key, inner in value.items()} if isinstance(value, dict) else type(value)


def test_both_languages_have_the_same_messages(client):
    with client.application.app_context():
        translations = client.application.jinja_env.get_template("translations.html").module.translations
    assert tuple(translations) == LANGUAGES
    assert structure(translations["ko"]) == structure(translations["en"])
    for key, korean in translations["ko"]["messages"].items():
        english = translations["en"]["messages"][key]
        assert sorted(p.split("}")[0] for p in korean.split("{")[1:]) == sorted(
            p.split("}")[0] for p in english.split("{")[1:]
        ), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_has_no_inline_code_and_no_remote_resource(client, language):
    page = ParsedPage(client.get(f"/?lang={language}").text)
    for tag, attributes in page.elements:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in {"src", "href", "action"} & set(attributes):
            assert "//" not in attributes[name]
            assert not attributes[name].startswith(("data:", "javascript:"))
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert [set(attributes) for attributes in scripts] == [{"type", "src"}]
    for tag, name in (("script", "src"), ("link", "href")):
        for attributes in (a for t, a in page.elements if t == tag):
            with client.get(attributes[name]) as response:
                assert response.status_code == 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_labelled_for_screen_readers(client, language):
    page = ParsedPage(client.get(f"/?lang={language}").text)
    labelled = {attributes["for"] for tag, attributes in page.elements if tag == "label"}
    assert {a["id"] for tag, a in page.elements if tag in ("textarea", "input")} == labelled
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids
    assert page.by_id("error")["role"] == "alert"
    assert page.by_id("summary")["role"] == "status"
    assert "noscript" in dict(page.elements)
    for label in KLUE.types:
        assert label in page.text


def test_the_page_passes_messages_and_examples_to_the_script(client):
    form = ParsedPage(client.get("/?lang=en").text).by_id("form")
    assert json.loads(form["data-messages"])["none"] == "No entities found."
    examples = json.loads(form["data-examples"])
    assert any("\n" in example for example in examples)
    assert all(any("가" <= character <= "힣" for character in example) for example in examples)


def test_the_page_has_only_relative_links(client):
    """A proxy may publish it below a prefix, whether or not it removes the prefix."""
    page = ParsedPage(client.get("/").text)
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in LINKS]
    assert {"static/page.js", "static/page.css", "infer", "docs"} <= set(links)
    assert not [link for link in links if link.startswith("/")]
