"""The command `koner drift`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koner.cli.scan_options import describe_rows, scan_options
from koner.cli.tag import corpus_progress, exit_on_interrupt

if TYPE_CHECKING:
    from koner.bulk.scanning import ScanCounts
    from koner.drift.comparison import Difference
    from koner.drift.statistics import TextStatistics


@click.command()
@click.argument("reference")
@click.argument("texts")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@scan_options
def drift(reference: str, texts: str, as_json: bool, model: Path, options: dict[str, Any]) -> None:
    """Report whether the model finds TEXTS different from REFERENCE: scores, entities, unknown tokens.

    Both are files, patterns or folders of Parquet, JSON lines or text, as for `koner tag --engine`. The texts of the
    evaluation are in data/predictions.parquet, which `dvc repro` writes.
    """
    # Imported on use, as in the other commands.
    from koner.drift.comparison import compare, conclude

    with exit_on_interrupt():
        sides = [_read(source, model, options) for source in (reference, texts)]
    statistics = [side for side, _ in sides]
    differences = compare(*statistics)
    conclusion = conclude(differences)
    if as_json:
        rows = [{**asdict(difference), "size": difference.size} for difference in differences]
        value = {"conclusion": conclusion, "differences": rows, "types": _densities(*statistics)}
        click.echo(json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8"))
        return
    for name, (side, counts) in zip(("reference", "texts"), sides, strict=True):
        click.echo(f"{name}: {describe_rows(counts)}; {side.tokens:,} tokens, {side.unknown_tokens:,} unknown")
    click.echo(f"\n{_table(differences)}\n\n{_type_table(*statistics)}\n\n{conclusion}")


def _read(source: str, model: Path, options: dict[str, Any]) -> tuple[TextStatistics, ScanCounts]:
    from koner.bulk.scanning import ScanCounts, scan
    from koner.drift.statistics import TextStatistics, count_texts

    statistics, counts = TextStatistics(), ScanCounts()
    for block in scan(source, model, count_texts, corpus_progress(), **options):
        statistics.merge(block.value)
        counts.add(block)
    return statistics, counts


def _densities(reference: TextStatistics, texts: TextStatistics) -> dict[str, list[float]]:
    """Return the entities of each type per 1,000 characters in the reference and in the texts."""
    return {label: [s.density(label) for s in (reference, texts)] for label in sorted({*reference.types, *texts.types})}


def _table(differences: list[Difference]) -> str:
    from tabulate import tabulate

    rows = [
        [d.name, _number(d.reference), _number(d.texts), d.test, f"{d.p_value:.2g}", f"{d.psi:.3f}", d.size]
        for d in differences
    ]
    head = ["", "reference", "texts", "test", "p", "PSI", "drift"]
    alignment = ["left", "right", "right", "left", "right", "right", "right"]
    return str(tabulate(rows, headers=head, disable_numparse=True, colalign=alignment))


def _type_table(reference: TextStatistics, texts: TextStatistics) -> str:
    from tabulate import tabulate

    rows = [[label, *(f"{density:.2f}" for density in d)] for label, d in _densities(reference, texts).items()]
    head = ["entities per 1,000 characters", "reference", "texts"]
    alignment = ["left", "right", "right"] if rows else None
    return str(tabulate(rows, headers=head, disable_numparse=True, colalign=alignment))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
