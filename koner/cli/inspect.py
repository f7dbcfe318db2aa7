"""The command `koner inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from koner.cli.source_options import SourceSettings, source_options
from koner.console import escape_controls
from koner.errors import KonerError

if TYPE_CHECKING:
    from koner.corpus.inspection import Summary


def _list_formats(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        return
    from koner.corpus.formats.registry import FORMATS, HUB

    click.echo(f"{HUB:18} a folder in the hub's layout, whose README.md names the files of each part")
    for format_ in FORMATS:
        click.echo(f"{format_.name:18} {format_.description}" + ("" if format_.write else " (only read)"))
    ctx.exit()


@click.command()
@click.argument("source")
@click.option(
    "--formats", is_flag=True, is_eager=True, expose_value=False, callback=_list_formats, help="List all formats."
)
@source_options
def inspect(source: str, settings: SourceSettings) -> None:
    """Print what would be read from SOURCE: format, parts, sentences, types with counts and examples, and faults.

    SOURCE is a file, a folder or the id of a hub dataset. The exit status is 1 if there is a fault.
    """
    from koner.corpus.inspection import summarize_source
    from koner.corpus.source_report import SourceReport

    report = SourceReport()
    parts = settings.read(source, report)
    summary = summarize_source(parts, settings.rules(), report)
    click.echo(_describe(summary))
    if summary.faults.count:
        shown = "\n".join(f"  {escape_controls(fault)}" for fault in summary.faults.shown)
        raise KonerError(f"faults: {summary.faults.count}; the first of them:\n{shown}")


def _describe(summary: Summary) -> str:
    """Return the summary as text."""
    from tabulate import tabulate

    lines = [f"format: {summary.report.format}"]
    lines += [f"tags: {scheme} ({', '.join(files[:3])})" for scheme, files in summary.report.schemes.items()]
    lines += [f"{part}: {number:,} sentences" for part, number in summary.sentences.items()]
    lines += [f"{change}: {number:,}" for change, number in sorted(summary.report.counts.items())]
    parts = list(summary.sentences)
    rows = [
        [label, *(f"{counts[part]:,}" for part in parts), escape_controls(", ".join(summary.examples[label]))]
        for label, counts in sorted(summary.types.items(), key=lambda item: -item[1].total())
    ]
    if not rows:
        return "\n".join([*lines, "no entities"])
    alignment = ["left", *["right"] * len(parts), "left"]
    table = tabulate(rows, headers=["type", *parts, "examples"], colalign=alignment, disable_numparse=True)
    return "\n".join([*lines, "", table])
