"""The command `koner label-config`."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from koner.annotation.label_studio import write_label_config
from koner.cli.source_options import SourceSettings, source_options
from koner.errors import KonerError

if TYPE_CHECKING:
    from koner.labels.styles import LabelStyle

_DEFAULT_MODEL = "models/ner"


@click.command("label-config")
@click.argument("model_or_source", default=_DEFAULT_MODEL, metavar="[MODEL | SOURCE]")
@source_options
def label_config(model_or_source: str, settings: SourceSettings) -> None:
    """Print Label Studio's labelling config for the labels of a model or a corpus, with their names and colours.

    MODEL is the folder of a model; the default is models/ner. SOURCE is what `koner inspect` reads: an annotated file,
    a folder or the id of a hub dataset. Names and colours are those of the labels.yaml in the model's folder or beside
    the corpus.
    """
    # Imported on use, as in the other commands.
    from koner.inference.model_folder import CONFIG_FILE

    if model_or_source == _DEFAULT_MODEL or os.path.isfile(os.path.join(model_or_source, CONFIG_FILE)):
        styles = _model_styles(Path(model_or_source))
    else:
        styles = _source_styles(model_or_source, settings)
    # Bytes are written as UTF-8 in any locale.
    click.echo(write_label_config(styles).encode("utf-8"), nl=False)


def _model_styles(model: Path) -> tuple[LabelStyle, ...]:
    from koner.inference.model_folder import read_config
    from koner.labels.label_set import LabelSet
    from koner.labels.styles import STYLES_FILE, read_styles

    return read_styles(model / STYLES_FILE, LabelSet.from_tags(read_config(model).token_labels))


def _source_styles(source: str, settings: SourceSettings) -> tuple[LabelStyle, ...]:
    from koner.corpus.inspection import summarize_source
    from koner.corpus.source_report import SourceReport
    from koner.corpus.style_file import copy_styles
    from koner.labels.label_set import LabelSet
    from koner.labels.styles import STYLES_FILE, read_styles

    report = SourceReport()
    summary = summarize_source(settings.read(source, report), settings.rules(), report)
    summary.faults.raise_if_any()
    if not summary.types:
        raise KonerError(f"{source} has no entity, so it has no labels")
    labels = LabelSet.of(summary.types)
    with TemporaryDirectory() as folder:
        copy_styles(source, Path(folder), labels)
        return read_styles(Path(folder) / STYLES_FILE, labels)
