"""Tokens, cross-origin requests (CORS), and the security headers of responses."""

from __future__ import annotations

import hmac
from http import HTTPStatus

from flask import Flask, Response, request

from app.problems import Problem
from app.serving import current_serving
from app.settings import Settings

# These paths require a token if tokens are set. The page, the documentation and the health checks never do.
# Nor does /webhook, which ignores what it gets: Label Studio sends its events without credentials.
PROTECTED_PATHS = frozenset({"/infer", "/version", "/metrics", "/health", "/setup", "/predict"})
# At these paths, the password of basic authentication may be the token: Label Studio sends no bearer tokens.
BASIC_PATHS = frozenset({"/health", "/setup", "/predict"})

_PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
_EXPOSED_HEADERS = "Retry-After, X-Koner-Model, X-Request-Id"

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI needs an inline script, inline styles, and images in data URLs.
_DOCS_PATHS = frozenset({"/docs", "/swagger"})
_DOCS_CONTENT_SECURITY_POLICY = (
    _CONTENT_SECURITY_POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'")
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    .replace("img-src 'self'", "img-src 'self' data:")
)


def init_app(app: Flask) -> None:
    """Check the tokens of an application's requests, and add headers to all its responses."""
    app.before_request(_check_access)
    app.after_request(_add_headers)


def _check_access() -> Response | None:
    settings = current_serving().settings
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers and _allowed_origin(settings):
        # A browser sends this preflight request by itself, without the token of the page.
        return Response(status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT_HEADERS)
    path = request.url_rule.rule if request.url_rule else ""
    if settings.tokens and path in PROTECTED_PATHS:
        _require_token(settings.tokens, path in BASIC_PATHS)
    return None


def _require_token(tokens: tuple[str, ...], is_basic_allowed: bool) -> None:
    authorization = request.authorization
    challenge = 'Bearer realm="koner"'
    token = authorization.token if authorization and authorization.type == "bearer" else None
    kinds = "a bearer token"
    if is_basic_allowed:
        kinds += ", or basic authentication with the token as password"
        if authorization and authorization.type == "basic":
            token = authorization.password
    basic_challenge = ', Basic realm="koner"' if is_basic_allowed else ""
    if not token:
        headers = {"WWW-Authenticate": challenge + basic_challenge}
        raise Problem(401, f"This path requires {kinds}.", headers=headers)
    # Compare with all tokens, each in constant time, so that the time taken reveals nothing about them.
    matches = [hmac.compare_digest(token.encode(), allowed.encode()) for allowed in tokens]
    if not any(matches):
        headers = {"WWW-Authenticate": f'{challenge}, error="invalid_token"{basic_challenge}'}
        raise Problem(401, "The token is not valid.", headers=headers)


def _add_headers(response: Response) -> Response:
    response.headers.update(_SECURITY_HEADERS)
    if response.mimetype == "text/html":
        is_docs = request.path in _DOCS_PATHS
        policy = _DOCS_CONTENT_SECURITY_POLICY if is_docs else _CONTENT_SECURITY_POLICY
        response.headers["Content-Security-Policy"] = policy
    settings = current_serving().settings
    if settings.cors_origins:
        response.vary.add("Origin")
        if origin := _allowed_origin(settings):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
    return response


def _allowed_origin(settings: Settings) -> str | None:
    """Return the value of `Access-Control-Allow-Origin` for the current request; None if its origin is not allowed."""
    if "*" in settings.cors_origins:
        return "*"
    return request.origin if request.origin in settings.cors_origins else None
