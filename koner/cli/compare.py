"""The command `koner compare`."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--repo", default=".", show_default=True, help="The repository, a folder or an address.")
@click.option(
    "--show",
    default=5,
    show_default=True,
    type=click.IntRange(0),
    help="The number of changed sentences to print of each kind.",
)
@click.option(
    "--resamples",
    default=1000,
    show_default=True,
    type=click.IntRange(100),
    help="The number of bootstrap resamples.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The seed of the resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every changed sentence.")
def compare(a: str, b: str, repo: str, show: int, resamples: int, seed: int, as_json: bool) -> None:
    """Report whether B is better than A: paired bootstrap over the sentences of the test part.

    A and B are git revisions (main, HEAD~1, a tag, a hash), names of DVC experiments, or `workspace`.
    """
    from koner.evaluation import comparison, revisions
    from koner.labels.label_set import LabelSet
    from koner.report.comparison import render_text, to_json

    (a_predictions, a_labels), (b_predictions, b_labels) = (
        revisions.load_predictions_of(revision, repo) for revision in (a, b)
    )
    labels = a_labels if a_labels == b_labels else LabelSet.of((*a_labels.types, *b_labels.types))
    result = comparison.compare(a_predictions, b_predictions, labels, resamples, seed, names=(a, b))
    if as_json:
        # JSON is UTF-8 in any locale, as bytes.
        click.echo(json.dumps(to_json(result), ensure_ascii=False, indent=2).encode("utf-8"))
    else:
        click.echo(render_text(result, show))
