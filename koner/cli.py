"""The `koner` command."""

from __future__ import annotations

import json
from pathlib import Path

import click

from koner.errors import told_plainly
from koner.params import PARAMS_FILE, RECIPES, switch_recipe


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="koner")
def main() -> None:
    """Korean named-entity recognition: reproduce with `dvc repro`, compare with `dvc metrics diff`."""


@main.command()
@click.argument("name", metavar=f"[{'|'.join(RECIPES)}]")
@click.option(
    "--params",
    "path",
    type=click.Path(path_type=Path),
    default=PARAMS_FILE,
    show_default=True,
    help="The parameters file to rewrite.",
)
def recipe(name: str, path: Path) -> None:
    """Write a recipe's values into params.yaml, where every later run stays on them."""
    with told_plainly():
        changed = switch_recipe(name, path)
    for key, (old, new) in changed.items():
        click.echo(f"{key}: {old} -> {new}")
    click.echo(f"{path} now holds the recipe '{name}'; run `dvc repro`" if changed else f"already on '{name}'")


@main.command()
@click.argument("a")
@click.argument("b")
@click.option("--repo", default=".", show_default=True, help="The repository, a folder or an address.")
@click.option(
    "--show", default=5, show_default=True, type=click.IntRange(0), help="Changed sentences to print of each kind."
)
@click.option("--resamples", default=1000, show_default=True, type=click.IntRange(100), help="Bootstrap resamples.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Draws the resamples.")
@click.option("--json", "json_", is_flag=True, help="Print JSON, with every changed sentence.")
def compare(a: str, b: str, repo: str, show: int, resamples: int, seed: int, json_: bool) -> None:
    """Tell whether B is better than A: paired bootstrap over the sentences of the test part.

    A and B are git revisions (main, HEAD~1, a tag, a hash), names of DVC experiments, or `workspace`.
    """
    # Slow to import, and no other command needs it.
    from koner.comparison import as_json, load_predictions_of, render
    from koner.comparison import compare as compared

    with told_plainly():
        comparison = compared(load_predictions_of(a, repo), load_predictions_of(b, repo), resamples, seed, names=(a, b))
    click.echo(json.dumps(as_json(comparison), ensure_ascii=False, indent=2) if json_ else render(comparison, show))
