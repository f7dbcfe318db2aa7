"""The command `koner select`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koner.cli.scan_options import describe_rows, scan_options
from koner.cli.tag import corpus_progress, exit_on_interrupt
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
@scan_options
def select(
    pool: str,
    budget: int,
    format_: Any,
    output: Path | None,
    annotated: tuple[str, ...],
    model: Path,
    options: dict[str, Any],
) -> None:
    """Choose the texts of POOL whose annotation teaches the model most, and write them as tasks with its predictions.

    POOL is a file, a pattern or a folder of Parquet, JSON lines or text, of any size, as for `koner tag --engine`; or
    an address such as s3://.... Chosen are texts that the model is uncertain about, and that do not repeat each other.
    """
    if output and output.exists():
        raise KonerError(f"{output} exists already; name a new file")
    # Imported on use, as in the other commands.
    from koner.selection.choice import choose
    from koner.selection.pool import read_pool

    with exit_on_interrupt():
        excluded = _fingerprints(annotated)
        found = read_pool(pool, model, budget, corpus_progress(), excluded, **options)
        if budget > len(found.candidates):
            raise KonerError(
                f"--budget: {budget} is more than the {len(found.candidates)} texts to choose from: {_describe(found)}"
            )
        chosen = choose(found.candidates, budget)
        _write(chosen, format_, output, model)
    click.echo(f"{len(chosen):,} chosen from {_describe(found)}", err=True)


def _fingerprints(sources: tuple[str, ...]) -> frozenset[bytes]:
    """Return the fingerprints of the texts of annotated corpora."""
    if not sources:
        return frozenset()
    # It needs packages that reading a pool does not.
    from koner.selection.sources import fingerprints_of

    return frozenset().union(*map(fingerprints_of, sources))


def _describe(pool: Pool) -> str:
    left_out = {"annotated already": pool.annotated, "repeated": pool.duplicates}
    return ", ".join([describe_rows(pool.counts), *(f"{count:,} {name}" for name, count in left_out.items() if count)])


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
