import os
import subprocess
import sys

import pytest

from app.settings import Settings, load_settings, read_tokens_file, settings_table
from koner.errors import KonerError


@pytest.fixture(autouse=True)
def _unset_variables(monkeypatch):
    for variable, _, _ in settings_table():
        monkeypatch.delenv(variable, raising=False)


def load_error():
    """Return the message of the error that `load_settings` raises."""
    with pytest.raises(KonerError) as error:
        load_settings()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_table_has_the_defaults():
    settings = load_settings()
    rows = {variable: default for variable, default, _ in settings_table()}
    assert len(rows) == len(Settings.model_fields)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        variable = name.upper() if name in ("host", "port", "workers") else f"KONER_{name.upper()}"
        assert rows[variable] == ("" if value in (None, ()) else str(value).lower() if value is False else str(value))


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("HOST", "0.0.0.0", "host", "0.0.0.0"),  # noqa: S104
        ("PORT", "0", "port", 0),
        ("WORKERS", "4", "workers", 4),
        ("KONER_MAX_TEXT", "5", "max_text", 5),
        ("KONER_ALLOW_UNLOCKED", "1", "allow_unlocked", True),
        ("KONER_LOG_TEXT", "true", "log_text", True),
        ("KONER_WAIT_MS", "0.5", "wait_ms", 0.5),
        ("KONER_THREADS", "2", "threads", 2),
        ("KONER_PREFIX", "/ner/v1.0", "prefix", "/ner/v1.0"),
        ("KONER_PREFIX", "", "prefix", ""),
        ("KONER_THREADS", "", "threads", None),
        # Kubernetes sets this for a service named koner.
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
def test_settings_are_read_from_the_environment(monkeypatch, variable, text, field, value):
    monkeypatch.setenv(variable, text)
    assert getattr(load_settings(), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
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
        ("KONER_HEAD_SECONDS", "0", "a number above 0, at most 3600"),
        ("KONER_CONNECTIONS", "0", "a whole number from 1 to 100000"),
        ("KONER_PREFIX", "/ner/", "a path such as /ner, without a slash at its end"),
        ("KONER_PREFIX", "ner", "a path such as /ner, without a slash at its end"),
        ("KONER_PREFIX", "//evil.example", "a path such as /ner, without a slash at its end"),
        ("KONER_GRACE", "-1", "a whole number from 0 to 3600"),
        ("KONER_ALLOW_UNLOCKED", "perhaps", "true or false"),
        ("KONER_LOG_TEXT", "2", "true or false"),
        ("KONER_CORS_ORIGINS", "example.org", "* or origins such as https://example.org, separated by commas"),
        ("KONER_CORS_ORIGINS", "https://a.example/", "* or origins such as https://example.org, separated by commas"),
    ],
)
def test_an_invalid_value_is_reported(monkeypatch, variable, text, allowed):
    monkeypatch.setenv(variable, text)
    assert load_error() == f"{variable}: {text!r} is not allowed; it must be {allowed}"


@pytest.mark.parametrize("text", ["hush hush", "geheim,schlüssel", "hush,,hush"])
def test_an_invalid_token_is_not_shown(monkeypatch, text):
    monkeypatch.setenv("KONER_TOKENS", text)
    message = load_error()
    assert message.startswith("KONER_TOKENS: ")
    assert not any(part in message for part in text.split(",") if part)


def test_tokens_are_not_part_of_the_repr_of_settings():
    assert "hush" not in f"{Settings(tokens=('hush',))!r} {Settings(tokens=('hush',))}"


def test_tokens_are_read_from_a_file(tmp_path):
    (tmp_path / "tokens").write_text("one\n\n two \r\n", encoding="utf-8")
    settings = read_tokens_file(Settings(tokens="three", tokens_file=tmp_path / "tokens"))
    assert settings.tokens == ("three", "one", "two")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "has no token"),
        (b"\n \n", "has no token"),
        (b"good\nwith space\n", "must have one token per line"),
        (b"\xff\n", "must have one token per line"),
    ],
)
def test_an_invalid_tokens_file_is_reported(tmp_path, content, message):
    if content is not None:
        (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(KonerError, match=f"^KONER_TOKENS_FILE: .*{message}") as error:
        read_tokens_file(Settings(tokens_file=tmp_path / "tokens"))
    assert "with space" not in str(error.value)


def test_the_command_prints_the_table_of_the_documentation(root):
    result = subprocess.run(
        [sys.executable, "-m", "app.settings"],
        cwd=root,
        env={**os.environ, "KONER_MAX_TEXT": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    header, separator, *rows = result.stdout.splitlines()
    assert (header, separator) == ("| Variable | Default | Meaning |", "| --- | --- | --- |")
    assert len(rows) == len(Settings.model_fields)
    assert all(row.count("|") == 4 for row in rows)
    assert "| `PORT` | `8000` | port to listen on; 0 chooses a free port (a whole number from 0 to 65535) |" in rows
    assert any(row.startswith("| `KONER_THREADS` |  | ") for row in rows)
    # The table has the default, not the value in the environment.
    assert any(row.startswith("| `KONER_MAX_TEXT` | `10000` | ") for row in rows)
    assert result.stdout in (root / "docs/service.md").read_text(encoding="utf-8")
