"""The service's settings: read from the environment, checked, and listed for the README."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from koner.errors import KonerError

# As RFC 6750 writes them.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~+/-]+=*$")]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s,*]+)$")]


class Settings(BaseSettings):
    """The settings; `title` says what each is for, `description` what it may be, for messages.

    A variable is a field's name in capitals after `KONER_`, but for the three that name their own: Kubernetes sets
    KONER_PORT for a service of the name koner. An empty variable counts as unset.
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
        title="port to listen on; 0 for any free one",
        description="a whole number from 0 to 65535",
    )
    workers: int = Field(
        default=1,
        validation_alias="WORKERS",
        ge=1,
        le=256,
        title="processes, each with the model",
        description="a whole number from 1 to 256",
    )
    model: Path = Field(default=Path("models/ner"), title="folder of the model", description="a path")
    lock: Path = Field(default=Path("dvc.lock"), title="file that pins the model", description="a path")
    revision: str | None = Field(
        default=None,
        title="Git commit that `/version` tells; unset: the one that is checked out",
        description="a name",
    )
    allow_unlocked: bool = Field(
        default=False, title="serve a model that the lock file doesn't pin, too", description="true or false"
    )
    max_body: int = Field(
        default=1_048_576,
        ge=1024,
        le=1_000_000_000,
        title="largest body, in bytes; a larger one gets 413",
        description="a whole number from 1024 to 1000000000",
    )
    max_text: int = Field(
        default=10_000,
        ge=1,
        le=100_000_000,
        title="longest text, in code points; a longer one gets 422",
        description="a whole number from 1 to 100000000",
    )
    max_texts: int = Field(
        default=64,
        ge=1,
        le=1_000_000,
        title="texts in a request; more get 422",
        description="a whole number from 1 to 1000000",
    )
    queue_requests: int = Field(
        default=128,
        ge=1,
        le=10_000,
        title="requests that may wait for the model, in each process; more get 503",
        description="a whole number from 1 to 10000",
    )
    queue_tokens: int = Field(
        default=16_384,
        ge=1,
        le=1_000_000_000,
        title="tokens that may wait for the model; beyond them requests get 503",
        description="a whole number from 1 to 1000000000",
    )
    batch_tokens: int = Field(
        # More at once is slower, on the CPUs that were measured: it falls out of their caches.
        default=512,
        ge=1,
        le=10_000_000,
        title="tokens that the model takes at once, padding included",
        description="a whole number from 1 to 10000000",
    )
    batch_padding: float = Field(
        # On a CPU a padded token costs what any token costs, and a batch more is cheap.
        default=0.1,
        ge=0,
        le=0.9,
        title="share of these tokens that may be padding",
        description="a number from 0 to 0.9",
    )
    wait_ms: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        title="longest wait for company in a batch, in milliseconds",
        description="a number from 0 to 1000",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        title="threads of the model, in each process; unset: one for each core",
        description="a whole number from 1 to 1024",
    )
    grace: int = Field(
        default=30,
        ge=0,
        le=3600,
        title="time to finish running requests when stopped, in seconds",
        description="a whole number from 0 to 3600",
    )
    tokens: Annotated[tuple[Token, ...], NoDecode] = Field(
        default=(),
        repr=False,
        title="bearer tokens, of which a request must bring one; unset: open to all",
        description="tokens of ASCII letters, digits and -._~+/ with commas between",
    )
    tokens_file: Path | None = Field(default=None, title="file of more such tokens, one a line", description="a path")
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        default=(),
        title="origins whose pages may call the service",
        description="* or origins such as https://example.org, with commas between",
    )
    log_text: bool = Field(default=False, title="log the texts of requests, too", description="true or false")

    @field_validator("tokens", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def load_settings() -> Settings:
    """Reads the environment; raises `KonerError` that names the variable, its value and what is allowed."""
    try:
        return Settings()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = str(fault["loc"][0])
        name, field = next(
            (name, field) for name, field in Settings.model_fields.items() if place in (name, field.validation_alias)
        )
        # What is left out of the settings' repr is secret.
        value = repr(fault["input"]) if field.repr else "a value that isn't shown"
        raise KonerError(f"{variable(name)}: {value} is not allowed; it must be {field.description}") from None


def variable(name: str) -> str:
    """The environment variable of a field."""
    return str(Settings.model_fields[name].validation_alias or f"{Settings.model_config['env_prefix']}{name}").upper()


def describe() -> list[tuple[str, str, str]]:
    """The settings as rows: variable, default (empty where there is none), meaning with what is allowed."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        written = "" if default in (None, ()) else str(default).lower() if isinstance(default, bool) else str(default)
        rows.append((variable(name), written, f"{field.title} ({field.description})"))
    return rows


if __name__ == "__main__":
    print("| Variable | Default | Meaning |\n| --- | --- | --- |")
    for row_variable, row_default, meaning in describe():
        print(f"| `{row_variable}` | {row_default and f'`{row_default}`'} | {meaning} |")
