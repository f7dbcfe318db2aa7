"""The service: a Flask application over a tagger. `create_app` makes it; nothing is loaded on import."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask_openapi3 import OpenAPI

    from app.settings import Settings
    from koner.tagger import Tagger


def create_app(settings: Settings | None = None, tagger: Tagger | None = None) -> OpenAPI:
    """Makes the application: with settings from the environment and the model that they name, unless given.

    Raises `KonerError` for a setting out of range, or a model that can't be served.
    """
    # Here, so that the settings can be read without Flask.
    from functools import partial
    from importlib.metadata import version

    from flask_openapi3 import Info, OpenAPI

    from app import access_log, infer, metrics, operations, page, problems, schemas, security, serving
    from app.settings import load_settings

    served = serving.load(settings or load_settings(), tagger)
    # As they were when the model was loaded, with what was read from files.
    settings = served.settings
    request_type = schemas.limited(settings.max_text, settings.max_texts)
    app = OpenAPI(
        __name__,
        info=Info(title="koner", version=version("koner"), description="Finds named entities in Korean text."),
        # Its type joins the document; 500, as any other status would be added to operations that never answer it.
        validation_error_model=schemas.ProblemDocument,
        validation_error_status=500,
        validation_error_callback=partial(problems.refuse_invalid, request_type),
        # See `_document`.
        doc_ui=False,
    )
    app.request_class = infer.StrictRequest
    # One more, to tell a body of the full length from one that was cut there: see `infer.StrictRequest`.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    app.extensions["koner"] = served
    for part in (problems, security, access_log, metrics):
        part.init_app(app)
    app.register_api(infer.create_blueprint(request_type))
    app.register_api(operations.blueprint)
    app.register_blueprint(page.blueprint)
    _document(app, security.GUARDED if settings.tokens else frozenset())
    return app


def _document(app: OpenAPI, guarded: frozenset[str]) -> None:
    """Serves the OpenAPI document at `/openapi.json`, with tokens for the guarded paths, and as a page at `/docs`."""
    from flask_openapi3_swagger.plugins import RegisterPlugin as SwaggerUI

    content = app.api_doc
    # flask-openapi3 writes null where there are none.
    del content["components"]["securitySchemes"]
    if guarded:
        content["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path in guarded:
        for operation in content["paths"][path].values():
            operation["security"] = [{"bearer": []}]
    document = json.dumps(content, ensure_ascii=False)
    app.add_url_rule("/openapi.json", "openapi", lambda: app.response_class(document, mimetype="application/json"))
    # No badge of a validator on the web, no field for the address of another document.
    app.config["SWAGGER_CONFIG"] = {"validatorUrl": None, "layout": "BaseLayout"}
    app.register_blueprint(SwaggerUI.register(doc_url="openapi.json"))
    app.add_url_rule("/docs", "docs", app.view_functions["swagger.swagger"])
