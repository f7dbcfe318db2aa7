"""The page at `/`, which highlights the entities of a text; in Korean or English."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, make_response, render_template, request

from app.serving import current_serving
from koner.labels.styles import stylesheet

blueprint = Blueprint("page", __name__)

LANGUAGES = ("ko", "en")


# Types that the page names in its first sentence.
_MOST_NAMED = 8


@blueprint.get("/labels.css")
def labels_stylesheet() -> Response:
    """Return the colours of the model's types."""
    response = current_app.response_class(stylesheet(current_serving().styles), mimetype="text/css")
    # Another model may be in service at the next visit.
    response.cache_control.no_cache = True
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.get("/")
def page() -> Response:
    """Render the page in the language of the visitor."""
    language = choose_language()
    styles = current_serving().styles
    response = make_response(
        render_template("page.html", language=language, styles=styles, names_all=len(styles) <= _MOST_NAMED)
    )
    response.content_language.add(language)
    response.vary.add("Accept-Language")
    return response


def choose_language() -> str:
    """Return the language of the page.

    It is that of the query parameter `lang`, else the first one of Accept-Language that the page has, else English.
    """
    language = request.args.get("lang")
    if language in LANGUAGES:
        return language
    # `best_match` would prefer a later `ko` to a first `en-US`, so compare primary subtags in the visitor's order.
    for tag, quality in request.accept_languages:
        primary = tag.split("-")[0].lower()
        if quality > 0 and primary in LANGUAGES:
            return primary
    return "en"
