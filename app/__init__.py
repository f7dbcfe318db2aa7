"""The service: a Flask application that tags Korean text. `create_app` builds it; importing it loads no model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask_openapi3 import OpenAPI

    from app.settings import Settings
    from koner.inference.tagger import Tagger


def create_app(settings: Settings | None = None, tagger: Tagger | None = None) -> OpenAPI:
    """Create the application.

    Args:
        settings: The settings; by default those of the environment.
        tagger: The loaded model of the model folder; by default it is loaded here.

    Raises:
        KonerError: If a setting is not valid or the model may not be served.
    """
    # Imported here, so that the settings can be read without Flask.
    from functools import partial
    from importlib.metadata import version

    from flask_openapi3 import Info, OpenAPI, Server
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    from app import access_log, infer, label_studio, metrics, operations, page, problems, schemas, security, serving
    from app.settings import load_settings

    model_in_service = serving.start_serving(settings or load_settings(), tagger)
    # The settings at the time the model was loaded, with the tokens of the tokens file.
    settings = model_in_service.settings
    styles = model_in_service.styles
    request_type = schemas.build_request_type(settings.max_text, settings.max_texts, styles)
    response_type = schemas.build_response_type(styles)
    app = OpenAPI(
        __name__,
        info=Info(title="koner", version=version("koner"), description="Finds named entities in Korean text."),
        servers=[Server(url=settings.prefix)] if settings.prefix else None,
        # The model becomes part of the OpenAPI document. Every operation documents 500 already; flask-openapi3 would
        # add any other status to operations that never return it.
        validation_error_model=schemas.ProblemDocument,
        validation_error_status=500,
        validation_error_callback=partial(problems.raise_invalid_fields, (request_type, *label_studio.REQUEST_TYPES)),
        # `_serve_documentation` replaces the pages of flask-openapi3.
        doc_ui=False,
    )
    if settings.prefix:
        # For a proxy that does not remove the prefix.
        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {settings.prefix: app.wsgi_app})  # type: ignore[method-assign]
    app.request_class = infer.StrictRequest
    # One byte more than the limit, so that `infer.StrictRequest` can tell a body of exactly the maximum size from one
    # that was truncated there.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    serving.set_serving(app, model_in_service)
    for module in (problems, security, access_log, metrics):
        module.init_app(app)
    app.register_api(infer.create_blueprint(request_type, response_type, settings.request_tokens))
    app.register_api(label_studio.blueprint)
    app.register_api(operations.blueprint)
    app.register_blueprint(page.blueprint)
    _serve_documentation(app, security.PROTECTED_PATHS if settings.tokens else frozenset())
    return app


def _serve_documentation(app: OpenAPI, protected_paths: frozenset[str]) -> None:
    """Serve the OpenAPI document at `/openapi.json` and Swagger UI at `/docs`.

    Args:
        app: The application, with all its routes.
        protected_paths: The paths that the document describes as requiring a token.
    """
    from flask_openapi3_swagger.plugins import RegisterPlugin as SwaggerUI

    from app.security import BASIC_PATHS

    content = app.api_doc
    # flask-openapi3 writes null if there are no security schemes.
    del content["components"]["securitySchemes"]
    if protected_paths:
        content["components"]["securitySchemes"] = {
            scheme: {"type": "http", "scheme": scheme} for scheme in ("bearer", "basic")
        }
    for path in protected_paths:
        schemes = ["bearer", "basic"] if path in BASIC_PATHS else ["bearer"]
        for operation in content["paths"][path].values():
            operation["security"] = [{scheme: []} for scheme in schemes]
    document = json.dumps(content, ensure_ascii=False)
    app.add_url_rule("/openapi.json", "openapi", lambda: app.response_class(document, mimetype="application/json"))
    # Show neither the badge of an online validator nor a field for the address of another document.
    app.config["SWAGGER_CONFIG"] = {"validatorUrl": None, "layout": "BaseLayout"}
    app.register_blueprint(SwaggerUI.register(doc_url="openapi.json"))
    app.add_url_rule("/docs", "docs", app.view_functions["swagger.swagger"])
