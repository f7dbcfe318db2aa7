"""The command `koner convert`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koner.cli.source_options import SourceSettings, source_options
from koner.errors import KonerError

if TYPE_CHECKING:
    from koner.corpus.sentences import Sentence


@click.command()
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", "format_", required=True, help="The format to write; `koner inspect --formats` lists all.")
@source_options
def convert(source: str, output: Path, format_: str, settings: SourceSettings) -> None:
    """Write the annotated corpus IN, in any known format, to OUT in another one.

    IN is a file, a folder or the id of a hub dataset; answers of `koner tag --format jsonl` are read, too. OUT is a
    file if IN has one part, else a folder with a file for each part. Nothing is written if IN has a fault.
    """
    # Imported on use, as in the other commands.
    from koner.corpus.conversion import write_parts
    from koner.corpus.source_report import SourceReport
    from koner.corpus.sources import stream_checked

    if output.exists():
        raise KonerError(f"{output} exists already; name a new file or folder")
    report = SourceReport()
    parts = settings.read(source, report)
    with write_parts(output, format_, len(parts) > 1) as write:

        def consume(part: str, sentences: Iterator[Sentence]) -> int:
            count = write(part, sentences)
            click.echo(f"{part}: {count} sentences")
            return count

        stream_checked(parts, consume, settings.rules(), report)
    for change, number in sorted(report.counts.items()):
        click.echo(f"{change}: {number}")
