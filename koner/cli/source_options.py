"""Options of the commands that read annotated corpora."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from koner.corpus.raw import RawSentence
    from koner.corpus.source_report import Rules, SourceReport


@dataclass(frozen=True)
class SourceSettings:
    """How a source is read: see the parameters of the same names in `params.yaml`."""

    source_format: str
    encoding: str
    config: str
    overlaps: Any
    illegal_bio: Any

    def read(self, source: str, report: SourceReport) -> dict[str, Iterator[RawSentence]]:
        """Return the raw sentences of each part of a source, as `read_source` does."""
        from koner.corpus.sources import read_source

        return read_source(
            source, self.config, None, source_format=self.source_format, encoding=self.encoding, report=report
        )

    def rules(self) -> Rules:
        """Return the rules of the checks."""
        from koner.corpus.source_report import Rules

        return Rules(self.overlaps, self.illegal_bio)


def _check_encoding(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from koner.validation import is_encoding

    if not is_encoding(value):
        raise click.BadParameter(f"{value!r} is not the name of a text encoding")
    return value


_OPTIONS = (
    click.option("--from", "source_format", default="auto", show_default=True, help="The format of the source."),
    click.option(
        "--encoding",
        default="utf-8",
        show_default=True,
        callback=_check_encoding,
        help="The encoding of text files: utf-8, cp949, ...",
    ),
    click.option("--config", default="ner", show_default=True, help="The configuration of a hub dataset."),
    click.option(
        "--overlaps",
        type=click.Choice(("error", "outermost", "innermost")),
        default="error",
        show_default=True,
        help="Which of overlapping entities is kept.",
    ),
    click.option(
        "--illegal-bio",
        type=click.Choice(("error", "repair")),
        default="error",
        show_default=True,
        help="What to do with tags that their scheme does not allow.",
    ),
)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets their values as `settings`."""

    @functools.wraps(command)
    def run(
        *, source_format: str, encoding: str, config: str, overlaps: str, illegal_bio: str, **arguments: Any
    ) -> None:
        command(settings=SourceSettings(source_format, encoding, config, overlaps, illegal_bio), **arguments)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run
