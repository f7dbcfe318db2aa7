"""Options of the commands that read the texts of a corpus with a model, and what these say about the corpus."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koner.bulk.choices import INPUT_FORMATS
from koner.cli.tag import decode_argument
from koner.console import escape_controls

if TYPE_CHECKING:
    from koner.bulk.scanning import ScanCounts

_OPTIONS = (
    click.option(
        "--model",
        type=click.Path(path_type=Path),
        default=Path("models/ner"),
        show_default=True,
        help="The folder of the model.",
    ),
    click.option("--input-format", type=click.Choice(INPUT_FORMATS), help="Of the texts; default: by file extension."),
    click.option("--column", help="The column that holds the texts; default: text."),
    click.option("--workers", type=click.IntRange(1), help="The number of processes; default: one per core or GPU."),
    click.option("--threads", type=click.IntRange(1), help="The number of threads of each worker; default: 1."),
    click.option("--device", help="The device that runs the model: cpu, cuda, ...; default: the fastest one here."),
)


def scan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets those that are given as `options`, and the model."""

    @functools.wraps(command)
    def run(
        *,
        input_format: str | None,
        column: str | None,
        workers: int | None,
        threads: int | None,
        device: str | None,
        **arguments: Any,
    ) -> None:
        column = column and decode_argument(column, "--column")
        options = {
            "input_format": input_format,
            "column": column,
            "workers": workers,
            "threads": threads,
            "device": device,
        }
        command(options={name: value for name, value in options.items() if value is not None}, **arguments)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def describe_rows(counts: ScanCounts) -> str:
    """Return the number of rows, and of those that were left out."""
    parts = [f"{counts.rows:,} rows"]
    if counts.blank:
        parts.append(f"{counts.blank:,} blank")
    if first := counts.first_rejected:
        reason = f"{escape_controls(first.file)}, row {first.number}: {escape_controls(first.reason)}"
        parts.append(f"{counts.rejected:,} rejected (the first: {reason})")
    return ", ".join(parts)
