import os
import subprocess
import sys

import pytest

from app.settings import Settings, describe, load_settings
from koner.errors import KonerError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for variable, _, _ in describe():
        monkeypatch.delenv(variable, raising=False)


def refusal():
    with pytest.raises(KonerError) as told:
        load_settings()
    assert "\n" not in str(told.value)
    return str(told.value)


def test_defaults_are_as_described():
    settings = load_settings()
    rows = {variable: default for variable, default, _ in describe()}
    assert len(rows) == len(Settings.model_fields)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        variable = name.upper() if name in ("host", "port", "workers") else f"KONER_{name.upper()}"
        assert rows[variable] == ("" if value in (None, ()) else str(value).lower() if value is False else str(value))


@pytest.mark.parametrize(
    ("variable", "written", "field", "value"),
    [
        ("HOST", "0.0.0.0", "host", "0.0.0.0"),  # noqa: S104
        ("PORT", "0", "port", 0),
        ("WORKERS", "4", "workers", 4),
        ("KONER_MAX_TEXT", "5", "max_text", 5),
        ("KONER_ALLOW_UNLOCKED", "1", "allow_unlocked", True),
        ("KONER_LOG_TEXT", "true", "log_text", True),
        ("KONER_WAIT_MS", "0.5", "wait_ms", 0.5),
        ("KONER_THREADS", "2", "threads", 2),
        ("KONER_THREADS", "", "threads", None),
        # What Kubernetes sets for a service of the name koner.
        ("KONER_PORT", "tcp://10.0.0.7:80", "port", 8000),
        ("KONER_TOKENS", "a.b, c==", "tokens", ("a.b", "c==")),
        ("KONER_CORS_ORIGINS", "*", "cors_origins", ("*",)),
        (
            "KONER_CORS_ORIGINS",
            "https://a.example,http://localhost:3000",
            "cors_origins",
            ("https://a.example", "http://localhost:3000"),
        ),
    ],
)
def test_the_environment_is_read(monkeypatch, variable, written, field, value):
    monkeypatch.setenv(variable, written)
    assert getattr(load_settings(), field) == value


@pytest.mark.parametrize(
    ("variable", "written", "allowed"),
    [
        ("PORT", "http", "a whole number from 0 to 65535"),
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("PORT", "-1", "a whole number from 0 to 65535"),
        ("WORKERS", "0", "a whole number from 1 to 256"),
        ("WORKERS", "1.5", "a whole number from 1 to 256"),
        ("KONER_MAX_BODY", "1MB", "a whole number from 1024 to 1000000000"),
        ("KONER_MAX_BODY", "1023", "a whole number from 1024 to 1000000000"),
        ("KONER_MAX_TEXT", "0", "a whole number from 1 to 100000000"),
        ("KONER_MAX_TEXTS", "0", "a whole number from 1 to 1000000"),
        ("KONER_QUEUE_TOKENS", "0", "a whole number from 1 to 1000000000"),
        ("KONER_BATCH_TOKENS", "0", "a whole number from 1 to 10000000"),
        ("KONER_WAIT_MS", "nan", "a number from 0 to 1000"),
        ("KONER_WAIT_MS", "inf", "a number from 0 to 1000"),
        ("KONER_THREADS", "0", "a whole number from 1 to 1024"),
        ("KONER_GRACE", "-1", "a whole number from 0 to 3600"),
        ("KONER_ALLOW_UNLOCKED", "perhaps", "true or false"),
        ("KONER_LOG_TEXT", "2", "true or false"),
        ("KONER_CORS_ORIGINS", "example.org", "* or origins such as https://example.org, with commas between"),
        ("KONER_CORS_ORIGINS", "https://a.example/", "* or origins such as https://example.org, with commas between"),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(monkeypatch, variable, written, allowed):
    monkeypatch.setenv(variable, written)
    shown = repr(written)
    assert refusal() == f"{variable}: {shown} is not allowed; it must be {allowed}"


@pytest.mark.parametrize("written", ["hush hush", "geheim,schlüssel", "hush,,hush"])
def test_a_wrong_token_is_not_shown(monkeypatch, written):
    monkeypatch.setenv("KONER_TOKENS", written)
    told = refusal()
    assert told.startswith("KONER_TOKENS: ")
    assert not any(part in told for part in written.split(",") if part)


def test_tokens_are_not_shown_with_the_settings():
    assert "hush" not in f"{Settings(tokens=('hush',))!r} {Settings(tokens=('hush',))}"


def test_the_table_for_the_readme_is_printed(root):
    done = subprocess.run(
        [sys.executable, "-m", "app.settings"],
        cwd=root,
        env={**os.environ, "KONER_MAX_TEXT": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    head, rule, *rows = done.stdout.splitlines()
    assert (head, rule) == ("| Variable | Default | Meaning |", "| --- | --- | --- |")
    assert len(rows) == len(Settings.model_fields)
    assert all(row.count("|") == 4 for row in rows)
    assert "| `PORT` | `8000` | port to listen on; 0 for any free one (a whole number from 0 to 65535) |" in rows
    assert any(row.startswith("| `KONER_THREADS` |  | ") for row in rows)
    # What is documented is the default, whatever is set where it's printed.
    assert any(row.startswith("| `KONER_MAX_TEXT` | `10000` | ") for row in rows)
    assert done.stdout in (root / "README.md").read_text(encoding="utf-8")
