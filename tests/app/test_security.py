import pytest

from app.security import PROTECTED_PATHS
from app.settings import Settings

OPEN_PATHS = {
    "/",
    "/static/<path:filename>",
    "/docs",
    "/openapi.json",
    "/swagger",
    "/swagger/<path:filename>",
    "/oauth2-redirect.html",
    "/healthz",
    "/readyz",
    "/labels.css",
    "/webhook",
}
TEXT = {"text": "서울"}


@pytest.fixture(scope="module")
def protected_client(create_client):
    return create_client(tokens="first,second+/=")


def protected_statuses(client, **headers):
    return [
        client.post("/infer", json=TEXT, headers=headers).status_code,
        *(client.get(path, headers=headers).status_code for path in ("/version", "/metrics")),
    ]


def test_every_route_is_either_protected_or_listed_as_open(app):
    assert {rule.rule for rule in app.url_map.iter_rules()} == PROTECTED_PATHS | OPEN_PATHS


def test_without_tokens_all_paths_are_open(client):
    assert protected_statuses(client) == [200, 200, 200]
    assert protected_statuses(client, Authorization="Bearer whatever") == [200, 200, 200]


@pytest.mark.parametrize("header", ["Bearer first", "Bearer second+/=", "bearer first", "Bearer  first"])
def test_each_token_gives_access(protected_client, header):
    assert protected_statuses(protected_client, Authorization=header) == [200, 200, 200]


@pytest.mark.parametrize(
    "header",
    [
        "Bearer third",
        "Bearer firs",
        "Bearer first,",
        "Bearer first,second+/=",
        "Bearer FIRST",
        "Bearer f\u00efrst",
        "Bearer a=b",
        "Bearer",
        "Bearer ",
        "first",
        "Basic Zmlyc3Q6",
        "Basic first",
        "",
        None,
    ],
)
def test_any_other_header_is_rejected(protected_client, header):
    headers = {} if header is None else {"Authorization": header}
    assert protected_statuses(protected_client, **headers) == [401, 401, 401]
    response = protected_client.post("/infer", json=TEXT, headers=headers)
    assert response.mimetype == "application/problem+json"
    assert response.json["status"] == 401
    assert response.headers["WWW-Authenticate"].startswith('Bearer realm="koner"')
    # RFC 6750: without a token in the request, the response must not have an error code.
    has_token = (
        header is not None and header.startswith("Bearer ") and header.strip() != "Bearer" and header != "Bearer a=b"
    )
    assert ("invalid_token" in response.headers["WWW-Authenticate"]) == has_token


def test_health_checks_page_and_documentation_need_no_token(protected_client):
    for path in ("/", "/static/page.js", "/healthz", "/readyz", "/docs", "/openapi.json"):
        assert protected_client.get(path).status_code == 200, path
    # It is no secret whether a path exists.
    assert protected_client.get("/nowhere").status_code == 404
    assert protected_client.get("/infer").status_code == 405


def test_tokens_are_not_shown(protected_client):
    response = protected_client.post("/infer", json=TEXT, headers={"Authorization": "Bearer secret"})
    assert "secret" not in response.text + str(response.headers)
    assert "secret" not in repr(Settings(tokens="secret"))


def test_tokens_of_a_file_are_added_to_the_others(create_client, tmp_path):
    (tmp_path / "tokens").write_text("one\n\n two \r\n", encoding="utf-8")
    client = create_client(tokens="three", tokens_file=tmp_path / "tokens")
    for token in ("one", "two", "three"):
        assert protected_statuses(client, Authorization=f"Bearer {token}") == [200, 200, 200]
    assert protected_statuses(client, Authorization="Bearer four") == [401, 401, 401]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/docs", 200),
        ("GET", "/static/page.css", 200),
        ("GET", "/healthz", 200),
        ("POST", "/infer", 415),
        ("GET", "/nowhere", 404),
        ("GET", "/infer", 405),
        ("OPTIONS", "/infer", 200),
    ],
)
def test_every_response_has_the_security_headers(client, method, path, status):
    response = client.open(path, method=method)
    assert response.status_code == status
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert ("Content-Security-Policy" in response.headers) == (response.mimetype == "text/html")


def test_an_error_response_has_the_security_headers(create_client, monkeypatch):
    client = create_client()
    monkeypatch.setattr(client.application.extensions["koner"].batcher, "tag", lambda texts: 1 / 0)
    response = client.post("/infer", json=TEXT)
    assert response.status_code == 500
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def content_security_policy(client, path):
    directives = client.get(path).headers["Content-Security-Policy"].split("; ")
    return {name: sources for name, *sources in map(str.split, directives)}


def test_the_page_may_only_load_its_own_resources(client):
    assert content_security_policy(client, "/") == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
        "img-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }


def test_the_documentation_may_use_inline_code_but_no_other_origin(client):
    sources = {source for directive in content_security_policy(client, "/docs").values() for source in directive}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert "'unsafe-inline'" not in content_security_policy(client, "/?docs")["script-src"]


ORIGIN, OTHER_ORIGIN = "https://here.example", "https://there.example:8443"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def cors_headers(response):
    return {name: value for name, value in response.headers if name.startswith("Access-Control-")}


@pytest.fixture(scope="module")
def cors_client(create_client):
    return create_client(cors_origins=f"{ORIGIN}, {OTHER_ORIGIN}", tokens="token")


def test_without_origins_there_are_no_cors_headers(client):
    for response in (
        client.post("/infer", json=TEXT, headers={"Origin": ORIGIN}),
        client.options("/infer", headers={"Origin": ORIGIN, **PREFLIGHT}),
    ):
        assert cors_headers(response) == {}


@pytest.mark.parametrize("origin", [ORIGIN, OTHER_ORIGIN])
def test_a_page_of_an_allowed_origin_may_call_the_service(cors_client, origin):
    response = cors_client.options("/infer", headers={"Origin": origin, **PREFLIGHT})
    assert response.status_code == 204
    assert cors_headers(response)["Access-Control-Allow-Origin"] == origin
    assert "POST" in cors_headers(response)["Access-Control-Allow-Methods"]
    assert {"Authorization", "Content-Type"} <= set(cors_headers(response)["Access-Control-Allow-Headers"].split(", "))
    for headers, status in (({"Authorization": "Bearer token"}, 200), ({}, 401)):
        response = cors_client.post("/infer", json=TEXT, headers={"Origin": origin, **headers})
        assert response.status_code == status
        # Without this header a page could not read the status 401.
        assert cors_headers(response)["Access-Control-Allow-Origin"] == origin
        assert "X-Koner-Model" in cors_headers(response)["Access-Control-Expose-Headers"]
        assert "Origin" in response.vary


@pytest.mark.parametrize(
    "origin", ["https://here.example.evil", "http://here.example", "https://here.example:444", "null", "", None]
)
def test_a_page_of_another_origin_may_not_call_the_service(cors_client, origin):
    headers = {} if origin is None else {"Origin": origin}
    preflight = cors_client.options("/infer", headers={**headers, **PREFLIGHT})
    response = cors_client.post("/infer", json=TEXT, headers={**headers, "Authorization": "Bearer token"})
    assert cors_headers(preflight) == cors_headers(response) == {}
    # A cache must not return this response to an allowed origin.
    assert "Origin" in response.vary


def test_all_origins_may_be_allowed(create_client):
    client = create_client(cors_origins="*")
    response = client.post("/infer", json=TEXT, headers={"Origin": ORIGIN})
    assert cors_headers(response)["Access-Control-Allow-Origin"] == "*"
    assert client.options("/infer", headers={"Origin": ORIGIN, **PREFLIGHT}).status_code == 204


def test_an_ordinary_options_request_is_not_a_preflight_request(cors_client, client):
    assert cors_client.options("/infer", headers={"Origin": ORIGIN}).status_code == 401
    assert "POST" in client.options("/infer").headers["Allow"]
