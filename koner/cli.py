"""The `koner` command."""

from __future__ import annotations

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
