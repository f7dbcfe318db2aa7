"""The page at `/`: text in, its entities highlighted, in Korean or English."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template, request

blueprint = Blueprint("page", __name__)

LANGUAGES = ("ko", "en")


@blueprint.get("/")
def page() -> Response:
    """Renders the page in the language that the visitor asks for."""
    language = choose_language()
    response = make_response(render_template("page.html", language=language))
    response.content_language.add(language)
    response.vary.add("Accept-Language")
    return response


def choose_language() -> str:
    """The page's language: `?lang=`, else the first of Accept-Language that the page speaks, else English."""
    asked = request.args.get("lang")
    if asked in LANGUAGES:
        return asked
    # By primary subtag, in the visitor's order: `best_match` would take a later `ko` before a first `en-US`.
    for tag, quality in request.accept_languages:
        primary = tag.split("-")[0].lower()
        if quality > 0 and primary in LANGUAGES:
            return primary
    return "en"
