"""The command `koner recipe`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name", metavar="[sample|klue|consult]")
@click.option(
    "--params",
    "path",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The parameters file to rewrite.",
)
def recipe(name: str, path: Path) -> None:
    """Write a recipe's values into params.yaml, so that every later run uses them."""
    # Imported on use because it is slow, as are the imports within the functions of the other commands.
    from koner.params import switch_recipe

    changes = switch_recipe(name, path)
    for key, (old, new) in changes.items():
        click.echo(f"{key}: {old} -> {new}")
    click.echo(f"{path} now holds the recipe '{name}'; run `dvc repro`" if changes else f"already on '{name}'")
