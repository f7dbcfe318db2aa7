"""Who may call the service, from which web pages, and what browsers may do with its answers."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, request
from pydantic import TypeAdapter

from app.problems import Problem
from app.settings import Settings, Token
from koner.errors import KonerError

if TYPE_CHECKING:
    from app.serving import Serving

# What takes a token where tokens are set: texts, and what tells of them. The page and the health checks stay open.
GUARDED = frozenset({"/infer", "/version", "/metrics"})

_TOKENS = TypeAdapter(list[Token])
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = "Retry-After, X-Koner-Model, X-Request-Id"

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI starts from a script in its page, and brings styles in elements and images in its style sheet.
_DOCS = frozenset({"/docs", "/swagger"})
_DOCS_POLICY = (
    _POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'")
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    .replace("img-src 'self'", "img-src 'self' data:")
)


def init_app(app: Flask) -> None:
    """Guards an app's requests, and adds the headers that every answer has."""
    app.before_request(_guard)
    app.after_request(_harden)


def read_tokens(settings: Settings) -> Settings:
    """Gives the settings with the tokens of the tokens file among `tokens`.

    Raises `KonerError` where there is no such file, a line of it is no token, or it holds none.
    """
    path = settings.tokens_file
    if path is None:
        return settings
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        tokens = _TOKENS.validate_python([line.strip() for line in lines if line.strip()])
    except OSError as error:
        raise KonerError(f"KONER_TOKENS_FILE: {path} can't be read: {error.strerror}") from None
    except ValueError:
        raise KonerError(
            f"KONER_TOKENS_FILE: {path} must hold a token a line, of ASCII letters, digits and -._~+/"
        ) from None
    if not tokens:
        # Whoever names a file doesn't mean to let everybody in.
        raise KonerError(f"KONER_TOKENS_FILE: {path} holds no token")
    return settings.model_copy(update={"tokens": (*settings.tokens, *tokens)})


def _guard() -> Response | None:
    settings = _settings()
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers and _allowed_origin(settings):
        # A browser asks this on its own, and without the page's token.
        return Response(status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)
    if settings.tokens and request.url_rule and request.url_rule.rule in GUARDED:
        _demand_token(settings.tokens)
    return None


def _demand_token(tokens: tuple[str, ...]) -> None:
    given = request.authorization
    challenge = 'Bearer realm="koner"'
    if given is None or given.type != "bearer" or not given.token:
        raise Problem(401, "This needs a bearer token.", headers={"WWW-Authenticate": challenge})
    # All of them, each in constant time, so that the time taken tells nothing.
    matches = [hmac.compare_digest(given.token.encode(), token.encode()) for token in tokens]
    if not any(matches):
        challenge += ', error="invalid_token"'
        raise Problem(401, "The bearer token is unknown.", headers={"WWW-Authenticate": challenge})


def _harden(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if response.mimetype == "text/html":
        response.headers["Content-Security-Policy"] = _DOCS_POLICY if request.path in _DOCS else _POLICY
    settings = _settings()
    if settings.cors_origins:
        response.vary.add("Origin")
        if origin := _allowed_origin(settings):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    return response


def _allowed_origin(settings: Settings) -> str | None:
    """What to allow the page that asks, None for nothing."""
    if "*" in settings.cors_origins:
        return "*"
    return request.origin if request.origin in settings.cors_origins else None


def _settings() -> Settings:
    serving: Serving = current_app.extensions["koner"]
    return serving.settings
