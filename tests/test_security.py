import pytest

from app import create_app
from app.security import GUARDED, read_tokens
from app.settings import Settings
from koner.errors import KonerError

pytest_plugins = ["tests.app_fixtures"]

OPEN = {
    "/",
    "/static/<path:filename>",
    "/docs",
    "/openapi.json",
    "/swagger",
    "/swagger/<path:filename>",
    "/oauth2-redirect.html",
    "/healthz",
    "/readyz",
}
TEXT = {"text": "서울"}


@pytest.fixture(scope="module")
def client_of(tiny_model, tagger):
    """Makes a client of an application with certain settings."""
    return lambda **settings: create_app(
        Settings(model=tiny_model, allow_unlocked=True, **settings), tagger
    ).test_client()


@pytest.fixture(scope="module")
def guarded(client_of):
    return client_of(tokens="first,second+/=")


def statuses(client, **headers):
    return [
        client.post("/infer", json=TEXT, headers=headers).status_code,
        *(client.get(path, headers=headers).status_code for path in ("/version", "/metrics")),
    ]


def test_a_route_is_either_guarded_or_meant_to_be_open(app):
    assert {rule.rule for rule in app.url_map.iter_rules()} == GUARDED | OPEN


def test_without_tokens_all_is_open(client):
    assert statuses(client) == [200, 200, 200]
    assert statuses(client, Authorization="Bearer whatever") == [200, 200, 200]


@pytest.mark.parametrize("header", ["Bearer first", "Bearer second+/=", "bearer first", "Bearer  first"])
def test_each_token_opens_what_is_guarded(guarded, header):
    assert statuses(guarded, Authorization=header) == [200, 200, 200]


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
def test_nothing_else_does(guarded, header):
    headers = {} if header is None else {"Authorization": header}
    assert statuses(guarded, **headers) == [401, 401, 401]
    answer = guarded.post("/infer", json=TEXT, headers=headers)
    assert answer.mimetype == "application/problem+json"
    assert answer.json["status"] == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="koner"')
    # RFC 6750: no error is named to one who brought no token.
    tried = (
        header is not None and header.startswith("Bearer ") and header.strip() != "Bearer" and header != "Bearer a=b"
    )
    assert ("invalid_token" in answer.headers["WWW-Authenticate"]) == tried


def test_health_page_and_documentation_stay_open(guarded):
    for path in ("/", "/static/page.js", "/healthz", "/readyz", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200, path
    # Whether there is such a path is no secret.
    assert guarded.get("/nowhere").status_code == 404
    assert guarded.get("/infer").status_code == 405


def test_a_token_is_never_shown(client_of, guarded, capsys):
    answer = guarded.post("/infer", json=TEXT, headers={"Authorization": "Bearer secret"})
    assert "secret" not in answer.text + str(answer.headers)
    assert "secret" not in repr(Settings(tokens="secret"))


def test_tokens_of_a_file_join_the_others(client_of, tmp_path):
    (tmp_path / "tokens").write_text("one\n\n two \r\n", encoding="utf-8")
    client = client_of(tokens="three", tokens_file=tmp_path / "tokens")
    for token in ("one", "two", "three"):
        assert statuses(client, Authorization=f"Bearer {token}") == [200, 200, 200]
    assert statuses(client, Authorization="Bearer four") == [401, 401, 401]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", "holds no token"),
        (b"\n \n", "holds no token"),
        (b"good\nwith space\n", "must hold a token a line"),
        (b"\xff\n", "must hold a token a line"),
    ],
)
def test_a_file_of_tokens_that_is_none(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(KonerError, match=f"^KONER_TOKENS_FILE: .*{sentence}") as caught:
        read_tokens(Settings(tokens_file=tmp_path / "tokens"))
    assert "with space" not in str(caught.value)


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
def test_every_answer_has_the_headers(client, method, path, status):
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert ("Content-Security-Policy" in answer.headers) == (answer.mimetype == "text/html")


def test_a_failure_has_the_headers_too(client_of, monkeypatch):
    client = client_of()
    monkeypatch.setattr(client.application.extensions["koner"].batcher, "tag", lambda texts: 1 / 0)
    answer = client.post("/infer", json=TEXT)
    assert answer.status_code == 500
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def policy(client, path):
    directives = client.get(path).headers["Content-Security-Policy"].split("; ")
    return {name: sources for name, *sources in map(str.split, directives)}


def test_the_page_may_run_nothing_but_its_own(client):
    assert policy(client, "/") == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
        "img-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }


def test_the_documentation_may_do_more_but_load_nothing_from_elsewhere(client):
    sources = {source for named in policy(client, "/docs").values() for source in named}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert "'unsafe-inline'" not in policy(client, "/?docs")["script-src"]


HERE, THERE = "https://here.example", "https://there.example:8443"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def cors(answer):
    return {name: value for name, value in answer.headers if name.startswith("Access-Control-")}


@pytest.fixture(scope="module")
def shared(client_of):
    return client_of(cors_origins=f"{HERE}, {THERE}", tokens="token")


def test_without_origins_there_is_no_cors(client):
    for answer in (
        client.post("/infer", json=TEXT, headers={"Origin": HERE}),
        client.options("/infer", headers={"Origin": HERE, **PREFLIGHT}),
    ):
        assert cors(answer) == {}


@pytest.mark.parametrize("origin", [HERE, THERE])
def test_a_page_of_an_origin_may_call(shared, origin):
    answer = shared.options("/infer", headers={"Origin": origin, **PREFLIGHT})
    assert answer.status_code == 204
    assert cors(answer)["Access-Control-Allow-Origin"] == origin
    assert "POST" in cors(answer)["Access-Control-Allow-Methods"]
    assert {"Authorization", "Content-Type"} <= set(cors(answer)["Access-Control-Allow-Headers"].split(", "))
    for headers, status in (({"Authorization": "Bearer token"}, 200), ({}, 401)):
        answer = shared.post("/infer", json=TEXT, headers={"Origin": origin, **headers})
        assert answer.status_code == status
        # Without this a page could not read its 401 either.
        assert cors(answer)["Access-Control-Allow-Origin"] == origin
        assert "X-Koner-Model" in cors(answer)["Access-Control-Expose-Headers"]
        assert "Origin" in answer.vary


@pytest.mark.parametrize(
    "origin", ["https://here.example.evil", "http://here.example", "https://here.example:444", "null", "", None]
)
def test_a_page_of_another_origin_may_not(shared, origin):
    headers = {} if origin is None else {"Origin": origin}
    preflight = shared.options("/infer", headers={**headers, **PREFLIGHT})
    answer = shared.post("/infer", json=TEXT, headers={**headers, "Authorization": "Bearer token"})
    assert cors(preflight) == cors(answer) == {}
    # A cache between must not serve this answer to those who may.
    assert "Origin" in answer.vary


def test_all_origins_may_be_let_in(client_of):
    client = client_of(cors_origins="*")
    answer = client.post("/infer", json=TEXT, headers={"Origin": HERE})
    assert cors(answer)["Access-Control-Allow-Origin"] == "*"
    assert client.options("/infer", headers={"Origin": HERE, **PREFLIGHT}).status_code == 204


def test_an_ordinary_options_request_is_no_preflight(shared, client):
    assert shared.options("/infer", headers={"Origin": HERE}).status_code == 401
    assert "POST" in client.options("/infer").headers["Allow"]
