"""The settings of the service, read from environment variables. `python -m app.settings` prints their table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from koner.errors import KonerError
from koner.hardware import usable_cores
from koner.validation import allowed_values

# The syntax of RFC 6750.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~+/-]+=*$")]
# Segments without characters that would need quoting in a URL.
Prefix = Annotated[str, Field(pattern=r"^((/[A-Za-z0-9._~-]+)+)?$")]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s,*]+)$")]

_TOKENS = TypeAdapter(list[Token])


class Settings(BaseSettings):
    """The settings. The `title` of a field is its meaning, its type, bounds and `description` are the allowed values.

    The variable of a field is its name in capitals with the prefix `KONER_`. `HOST`, `PORT` and `WORKERS` have no
    prefix, because Kubernetes sets KONER_PORT for a service named koner. An empty variable counts as unset.
    """

    model_config = SettingsConfigDict(env_prefix="KONER_", env_ignore_empty=True, extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1", validation_alias="HOST", title="address to listen on", description="an address"
    )
    port: int = Field(
        default=8000,
        validation_alias="PORT",
        ge=0,
        le=65535,
        title="port to listen on; 0 chooses a free port",
    )
    prefix: Prefix = Field(
        default="",
        title="path prefix under which a proxy publishes the service, whether or not it removes the prefix",
        description="a path such as /ner, without a slash at its end",
    )
    workers: int = Field(
        default=1,
        validation_alias="WORKERS",
        ge=1,
        le=256,
        title="number of worker processes",
    )
    model: Path = Field(default=Path("models/ner"), title="model folder", description="a path")
    lock: Path = Field(default=Path("dvc.lock"), title="lock file that pins the model", description="a path")
    revision: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{7,64}$",
        title="Git commit that `/version` reports; by default the commit that is checked out, if it has the lock file",
        description="a hash of 7 to 64 hexadecimal digits",
    )
    allow_unlocked: bool = Field(default=False, title="also serve a model that the lock file does not pin")
    max_body: int = Field(
        default=1_048_576,
        ge=1024,
        le=1_000_000_000,
        title="maximum size of a request body in bytes; a larger body gets 413",
    )
    head_seconds: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        title="maximum time for the head of a request to arrive, in seconds; a slower request gets 408",
    )
    body_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        title="maximum time for the body of a request to arrive, in seconds; a slower request gets 408",
    )
    send_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        title="maximum time for a client to take its response, in seconds",
    )
    connections: int = Field(
        default=2048,
        ge=1,
        le=100_000,
        title="maximum number of open connections of a worker; a further one replaces the one that has waited longest",
    )
    max_text: int = Field(
        default=10_000,
        ge=1,
        le=100_000_000,
        title="maximum length of a text in code points; a longer text gets 422",
    )
    max_texts: int = Field(
        default=64,
        ge=1,
        le=1_000_000,
        title="maximum number of texts in a request; more texts get 422",
    )
    request_tokens: int = Field(
        # No ordinary text of 10,000 code points has more.
        default=16_384,
        ge=1,
        le=1_000_000_000,
        title="maximum number of tokens in the texts of a request, as the model counts them; more tokens get 422",
    )
    queue_requests: int = Field(
        default=128,
        ge=1,
        le=10_000,
        title="maximum number of requests in the queue of a worker; further requests get 503",
    )
    queue_tokens: int = Field(
        default=16_384,
        ge=1,
        le=1_000_000_000,
        title="maximum number of tokens that a worker has to run until a request is answered; further requests get 503",
    )
    batch_tokens: int = Field(
        # Larger batches were slower on the CPUs that were measured, because they do not fit into the caches.
        default=512,
        ge=1,
        le=10_000_000,
        title="maximum number of tokens in a batch, including padding",
    )
    turn_tokens: int = Field(
        # Larger turns were hardly faster on the CPUs that were measured, and other requests would wait for longer.
        default=64,
        ge=1,
        le=10_000_000,
        title="maximum number of tokens of a request in a batch; the rest of a larger request waits for its next turn",
    )
    batch_padding: float | None = Field(
        default=None,
        ge=0,
        le=0.9,
        title="maximum share of padding in a batch; by default 0.25 for a fast model and 0.1 for a slow one",
    )
    wait_ms: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        title="maximum time that a batch waits for further requests, in milliseconds",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        title="threads of the model in each worker; by default the cores are divided among the workers, and a worker "
        "with a fast model leaves one of its cores to the rest of the requests",
    )
    grace: int = Field(
        default=30,
        ge=0,
        le=3600,
        title="time to finish running requests at shutdown, in seconds",
    )
    tokens: Annotated[tuple[Token, ...], NoDecode] = Field(
        default=(),
        repr=False,
        title="bearer tokens, one of which a request must have; by default no token is required",
        description="tokens of ASCII letters, digits and -._~+/, separated by commas",
    )
    tokens_file: Path | None = Field(
        default=None, title="file with more bearer tokens, one per line", description="a path"
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        default=(),
        title="origins whose web pages may call the service",
        description="* or origins such as https://example.org, separated by commas",
    )
    log_text: bool = Field(default=False, title="also log the texts of requests")

    feedback: Path | None = Field(
        default=None,
        title="folder in which texts with low scores are kept for annotation, as `koner select` reads it; by default "
        "no text is kept",
        description="a path",
    )
    feedback_score: float = Field(
        default=0.9,
        gt=0,
        le=1,
        title="score below which a text is kept in `KONER_FEEDBACK`: the geometric mean of its tags' probabilities",
    )
    feedback_share: float = Field(
        default=0.1, gt=0, le=1, title="share of these texts that is kept in `KONER_FEEDBACK`, drawn at random"
    )
    feedback_bytes: int = Field(
        default=10_000_000,
        ge=100_000,
        le=1_000_000_000_000,
        title="maximum size of the files in `KONER_FEEDBACK` in bytes; the oldest are deleted",
    )

    @field_validator("tokens", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @property
    def threads_per_worker(self) -> int:
        """The number of threads of the model in each worker."""
        return self.threads or max(1, usable_cores() // self.workers)


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        KonerError: If a value is not valid. The message has the variable, its value and the allowed values.
    """
    try:
        return Settings()
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        location = str(details["loc"][0])
        name, field = next(
            (name, field) for name, field in Settings.model_fields.items() if location in (name, field.validation_alias)
        )
        # A field that is not part of the settings' repr is secret.
        value = repr(details["input"]) if field.repr else "the value (not shown)"
        raise KonerError(f"{variable_name(name)}: {value} is not allowed; it must be {allowed_values(field)}") from None


def read_tokens_file(settings: Settings) -> Settings:
    """Return the settings with the tokens of the tokens file added to `tokens`.

    Raises:
        KonerError: If the tokens file does not exist, has a line that is not a token, or has no token.
    """
    path = settings.tokens_file
    if path is None:
        return settings
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        tokens = _TOKENS.validate_python([line.strip() for line in lines if line.strip()])
    except OSError as error:
        raise KonerError(f"KONER_TOKENS_FILE: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise KonerError(
            f"KONER_TOKENS_FILE: {path} must have one token per line, of ASCII letters, digits and -._~+/"
        ) from None
    if not tokens:
        # Without this error the service would require no token, although a file of tokens is set.
        raise KonerError(f"KONER_TOKENS_FILE: {path} has no token")
    return settings.model_copy(update={"tokens": (*settings.tokens, *tokens)})


def variable_name(name: str) -> str:
    """Return the environment variable of a field."""
    return str(Settings.model_fields[name].validation_alias or f"{Settings.model_config['env_prefix']}{name}").upper()


def settings_table() -> list[tuple[str, str, str]]:
    """Return the rows of the table of settings: variable, default ("" if there is none), and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if default in (None, ()):
            default_text = ""
        elif isinstance(default, bool):
            default_text = str(default).lower()
        else:
            default_text = str(default)
        rows.append((variable_name(name), default_text, f"{field.title} ({allowed_values(field)})"))
    return rows


if __name__ == "__main__":
    print("| Variable | Default | Meaning |\n| --- | --- | --- |")
    for variable, default_value, meaning in settings_table():
        print(f"| `{variable}` | {default_value and f'`{default_value}`'} | {meaning} |")
