"""The command `koner agree`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from koner.cli.source_options import SourceSettings, source_options
from koner.console import escape_controls
from koner.errors import KonerError

if TYPE_CHECKING:
    from koner.annotation.agreement import Agreement, Matching
    from koner.corpus.sentences import Sentence
    from koner.evaluation.bootstrap import Interval


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--annotator-a", metavar="PERSON", help="Of A, an export of Label Studio: whose annotations count.")
@click.option("--annotator-b", metavar="PERSON", help="Of B, likewise.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write the texts that differ, as tasks for Label Studio with both annotations as predictions.",
)
@click.option(
    "--resamples", default=1000, show_default=True, type=click.IntRange(100), help="The number of bootstrap resamples."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The seed of the resamples.")
@source_options
def agree(
    a: str,
    b: str,
    annotator_a: str | None,
    annotator_b: str | None,
    output: Path | None,
    resamples: int,
    seed: int,
    settings: SourceSettings,
) -> None:
    """Report how well two annotations of the same texts, A and B, agree.

    A and B are sources in any known format: exports of annotation tools, files, folders, hub datasets, or the answers
    of `koner tag --format jsonl`. Their sentences are matched by the text.
    """
    from koner.annotation.agreement import match_texts, measure_agreement

    if output and output.exists():
        raise KonerError(f"{output} exists already; name a new file")
    names = (_name(a, annotator_a, b), _name(b, annotator_b, a))
    matching = match_texts(_read(a, annotator_a, "a", settings), _read(b, annotator_b, "b", settings))
    if not matching.pairs:
        raise KonerError(
            f"no text is in both {a} and {b}: {matching.only_a} sentences are only in the first, {matching.only_b} "
            "only in the second"
        )
    click.echo(_describe(names, matching, measure_agreement(matching.pairs, resamples, seed)))
    if output:
        _write_disagreements(output, names, matching)


def _name(source: str, annotator: str | None, other: str) -> str:
    """Return a short name of a source: that of its file, if the other one has another."""
    name = Path(source).name if Path(source).name != Path(other).name else source
    return f"{name}, {annotator}" if annotator else name


def _read(source: str, annotator: str | None, side: str, settings: SourceSettings) -> list[Sentence]:
    from koner.corpus.source_report import SourceReport
    from koner.corpus.sources import read_checked

    with _of_annotator(source, annotator, side) as path:
        report = SourceReport()
        parts = read_checked(settings.read(path, report), settings.rules(), report)
    return [sentence for sentences in parts.values() for sentence in sentences]


@contextmanager
def _of_annotator(source: str, annotator: str | None, side: str) -> Iterator[str]:
    """Yield the path of a source, or of a copy with the annotations of one person only."""
    from koner.annotation.annotators import check_one_annotator, is_export, select_annotator
    from koner.storage.paths import local_path

    path = local_path(source)
    if not is_export(path):
        if annotator:
            raise KonerError(f"--annotator-{side} is given, but {source} is not a JSON export of Label Studio")
        yield source
        return
    if annotator is None:
        check_one_annotator(path, f"--annotator-{side}")
        yield source
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        select_annotator(path, annotator, copy)
        yield str(copy)


def _write_disagreements(output: Path, names: tuple[str, str], matching: Matching) -> None:
    from koner.annotation.label_studio import prediction, task_with_predictions
    from koner.corpus.formats.records import write_json_array

    tasks = [
        task_with_predictions(
            pair.a.text,
            [
                prediction(pair.a.text, side.entities, model_version=f"{letter}: {name}")
                for letter, name, side in zip("AB", names, (pair.a, pair.b), strict=True)
            ],
            data={"id": pair.a.id},
        )
        for pair in matching.pairs
        if pair.differs
    ]
    write_json_array(output, tasks)
    click.echo(f"\n{output}: {len(tasks):,} tasks with two predictions each")


def _describe(names: tuple[str, str], matching: Matching, agreement: Agreement) -> str:
    """Return the agreement as text."""
    from tabulate import tabulate

    lines = [f"{side}: {escape_controls(name)}" for side, name in zip("AB", names, strict=True)]
    lines += [f"{agreement.sentences:,} texts in both, {agreement.equal:,} of them with equal annotations"]
    for side, count in (("A", matching.only_a), ("B", matching.only_b)):
        lines += [f"only in {side}, and not compared: {count:,} sentences"] if count else []
    lines += [
        "",
        f"F1 of exact spans and types: {_interval(agreement.f1)}",
        f"Cohen's kappa: {_number(agreement.kappa)} (the type, or O, of {agreement.characters:,} characters; white "
        "space is left out)",
        "",
    ]
    rows = [
        [type_, f"{t.a:,}", f"{t.b:,}", f"{t.both:,}", _interval(t.f1), _number(t.kappa)]
        for type_, t in sorted(agreement.by_type.items(), key=lambda item: -(item[1].a + item[1].b))
    ]
    headers = ["type", "A", "B", "equal", "F1 (95% interval)", "kappa"]
    alignment = ["left", "right", "right", "right", "left", "right"]
    lines += [tabulate(rows, headers=headers, colalign=alignment, disable_numparse=True) if rows else "no entities"]
    lines += ["", "Entities by their type in A (rows) and in B (columns), - for none:", "", _confusion(agreement)]
    return "\n".join(lines if rows else lines[:-4])


def _confusion(agreement: Agreement) -> str:
    from tabulate import tabulate

    sides = [*agreement.by_type, None]
    rows = [
        [row or "-", *(f"{agreement.confusion[row, column]:,}" if row or column else "" for column in sides)]
        for row in sides
    ]
    alignment = ["left", *["right"] * len(sides)]
    table: str = tabulate(rows, headers=["", *(s or "-" for s in sides)], colalign=alignment, disable_numparse=True)
    return table


def _interval(figure: Interval) -> str:
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
