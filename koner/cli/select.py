"""The command `koner select`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koner.bulk.choices import INPUT_FORMATS
from koner.cli.tag import corpus_progress, decode_argument, exit_on_interrupt
from koner.console import escape_controls
from koner.errors import KonerError

if TYPE_CHECKING:
    from koner.selection.candidates import Candidate
    from koner.selection.pool import Pool

# As in `koner.selection.tasks`, which is slow to import.
_FORMATS = ("label-studio", "jsonl")


@click.command()
@click.argument("pool")
@click.option("--budget", type=click.IntRange(1), required=True, help="The number of texts to choose.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    default="label-studio",
    show_default=True,
    help="Tasks for Label Studio's import, or a line of JSON for each text, as doccano imports it.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write; default: the output."
)
@click.option(
    "--annotated",
    multiple=True,
    metavar="SOURCE",
    help="A corpus whose texts are left out, in any format that `koner inspect` reads. May be repeated.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=Path("models/ner"),
    show_default=True,
    help="The folder of the model.",
)
@click.option("--input-format", type=click.Choice(INPUT_FORMATS), help="The format of POOL; default: by its extension.")
@click.option("--column", help="The column that holds the texts; default: text.")
@click.option("--workers", type=click.IntRange(1), help="The number of processes; default: one per core or GPU.")
@click.option("--threads", type=click.IntRange(1), help="The number of threads of each worker; default: 1.")
@click.option("--device", help="The device that runs the model: cpu, cuda, ...; default: the fastest one here.")
def select(
    pool: str,
    budget: int,
    format_: Any,
    output: Path | None,
    annotated: tuple[str, ...],
    model: Path,
    **options: Any,
) -> None:
    """Choose the texts of POOL whose annotation teaches the model most, and write them as tasks with its predictions.

    POOL is a file, a pattern or a folder of Parquet, JSON lines or text, of any size, as for `koner tag --engine`; or
    an address such as s3://.... Chosen are texts that the model is uncertain about, and that do not repeat each other.
    """
    if output and output.exists():
        raise KonerError(f"{output} exists already; name a new file")
    options = {name: value for name, value in options.items() if value is not None}
    if "column" in options:
        options["column"] = decode_argument(options["column"], "--column")
    # Imported on use, as in the other commands.
    from koner.selection.choice import choose
    from koner.selection.pool import read_pool
    from koner.selection.sources import fingerprints_of

    with exit_on_interrupt():
        excluded = frozenset().union(*map(fingerprints_of, annotated))
        found = read_pool(pool, model, budget, corpus_progress(), annotated=excluded, **options)
        if budget > len(found.candidates):
            raise KonerError(
                f"--budget: {budget} is more than the {len(found.candidates)} texts to choose from: {_describe(found)}"
            )
        chosen = choose(found.candidates, budget)
        _write(chosen, format_, output, model)
    click.echo(f"{len(chosen):,} chosen from {_describe(found)}", err=True)


def _describe(pool: Pool) -> str:
    counts = {
        "blank": pool.blank,
        "annotated already": pool.annotated,
        "repeated": pool.duplicates,
        "rejected": pool.rejected,
    }
    parts = [f"{pool.rows:,} rows", *(f"{count:,} {name}" for name, count in counts.items() if count)]
    if pool.first_rejected:
        first = pool.first_rejected
        parts[-1] += f" (the first: {escape_controls(first.file)}, row {first.number}: {escape_controls(first.reason)})"
    return ", ".join(parts)


def _write(chosen: list[Candidate], format_: Any, output: Path | None, model: Path) -> None:
    from koner.release.hashing import folder_hash
    from koner.selection.tasks import write_tasks
    from koner.storage.outputs import write_text

    content = "".join(write_tasks(chosen, format_, f"koner {folder_hash(model)[:8]}"))
    if output:
        write_text(output, content)
        return
    if sys.stdout is None:
        raise KonerError("the tasks can't be written: standard output is closed")
    click.echo(content.encode("utf-8"), nl=False)
