"""The `koner` command."""

from __future__ import annotations

import click

from koner.cli.agree import agree
from koner.cli.audit import audit
from koner.cli.compare import compare
from koner.cli.convert import convert
from koner.cli.drift import drift
from koner.cli.inspect import inspect
from koner.cli.label_config import label_config
from koner.cli.recipe import recipe
from koner.cli.select import select
from koner.cli.serve import serve
from koner.cli.tag import tag
from koner.console import escape_unencodable
from koner.errors import exit_on_error


class _Group(click.Group):
    """A group whose commands end with one sentence after an error that the user can act on."""

    def invoke(self, ctx: click.Context) -> object:
        with exit_on_error():
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="koner")
def main() -> None:
    """Korean named-entity recognition: reproduce with `dvc repro`, compare with `dvc metrics diff`."""
    escape_unencodable()


for command in (recipe, inspect, convert, audit, agree, compare, tag, select, drift, label_config, serve):
    main.add_command(command)
