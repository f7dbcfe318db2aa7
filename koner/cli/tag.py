"""The command `koner tag`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from koner.annotation.label_studio import DEFAULT_CONTROL, Control, describe_difference, parse_label_config
from koner.bulk.choices import ENGINES, INPUT_FORMATS, EngineName
from koner.cli.arguments import FiniteRange
from koner.cli.formats import FORMATS, LABEL_STUDIO, Format, Layout, find_layout
from koner.console import escape_controls
from koner.errors import INTERRUPTED, KonerError
from koner.inference.offsets import OFFSET_UNITS, OffsetUnit
from koner.text.lines import Reader, line_chunks

if TYPE_CHECKING:
    from koner.inference.tagger import Tagger


@click.command()
@click.argument("texts", nargs=-1, metavar="[TEXT]... | INPUT OUTPUT")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    help="A UTF-8 file with one text per line; - is standard input. May be repeated.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="A table to read; one line of JSON per text, as POST /infer answers; the text with <서울:LC> marks; or tasks "
    "with predictions, to import into Label Studio.",
)
@click.option(
    "--label-config",
    "config",
    type=click.Path(path_type=Path),
    help="With --format label-studio: the project's labelling config; default: the one of `koner label-config`.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=Path("models/ner"),
    show_default=True,
    help="The folder of the model.",
)
@click.option(
    "--min-score",
    type=FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="Leave out entities with a lower score.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="TYPE",
    help="Return entities of this type of the model only. May be repeated.",
)
@click.option(
    "--offsets",
    type=click.Choice(OFFSET_UNITS),
    default="codepoint",
    show_default=True,
    help="The unit of start and end: code points (Python), or UTF-16 code units (JavaScript, Java).",
)
@click.option("--device", help="The device that runs the model: cpu, cuda, ...; default: the fastest one here.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="The number of threads of the model; default: one per core. With --engine: of each worker; default: 1.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Tag the corpus INPUT into the folder OUTPUT, by processes on this machine or by actors on a Ray cluster.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="With --engine: the number of processes or actors; default: one per core or GPU.",
)
@click.option(
    "--input-format",
    type=click.Choice(INPUT_FORMATS),
    help="With --engine: the format of INPUT; default: by the extensions of its files.",
)
@click.option("--column", help="With --engine: the column that holds the texts; default: text.")
@click.option("--into", help="With --engine: the name of the new column; default: entities.")
@click.option(
    "--block-rows", type=click.IntRange(1), help="With --engine: the rows of each file in OUTPUT; default: 10000."
)
def tag(
    texts: tuple[str, ...],
    files: tuple[str, ...],
    format_: Format,
    config: Path | None,
    model: Path,
    min_score: float,
    labels: tuple[str, ...],
    offsets: OffsetUnit,
    device: str | None,
    threads: int | None,
    engine: EngineName | None,
    **corpus_options: Any,
) -> None:
    """Find the named entities of each TEXT, of each line of the files, or else of standard input.

    Every text has its result, in order, even an empty text. Results are printed while the input is read.

    With --engine, tag a corpus of any size: INPUT is a file, a pattern or a folder of Parquet, JSON lines or text,
    OUTPUT a folder for Parquet files with the same columns and `entities`; both may be addresses such as s3://....
    A run that was interrupted continues if the command is repeated. Malformed rows are written to OUTPUT/_rejected,
    with the reason.
    """
    if labels:
        labels = _check_labels(model, labels)
    if engine:
        if len(texts) != 2 or files or config or _is_given("format_"):
            raise click.UsageError(
                "--engine takes INPUT and OUTPUT, writes Parquet, and takes neither --file, --format nor --label-config"
            )
        selection = {"min_score": min_score, "labels": sorted(set(labels)) or None, "offsets": offsets}
        settings = corpus_options | selection | {"device": device, "threads": threads}
        _tag_corpus(*texts, model, engine, settings)
        return
    if option := next((name for name, value in corpus_options.items() if value is not None), None):
        raise click.UsageError(f"--{option.replace('_', '-')} needs --engine")
    if format_ == LABEL_STUDIO and _is_given("offsets"):
        raise click.UsageError("--format label-studio takes no --offsets: Label Studio counts code points")
    if config and format_ != LABEL_STUDIO:
        raise click.UsageError("--label-config needs --format label-studio")
    with exit_on_interrupt(), ExitStack() as open_files:
        if sys.stdout is None:
            raise KonerError("the results can't be written: standard output is closed")
        chunks = _open_chunks(texts, files or (() if texts else ("-",)), open_files)
        from koner.inference.tagger import Tagger

        tagger = Tagger.load(model, device, threads)
        control = _read_control(config, tagger) if config else DEFAULT_CONTROL
        _tag_chunks(chunks, tagger, find_layout(format_, offsets, model, control), min_score, labels)


def _is_given(parameter: str) -> bool:
    """Return whether a parameter is on the command line."""
    return click.get_current_context().get_parameter_source(parameter) is ParameterSource.COMMANDLINE


def _read_control(config: Path, tagger: Tagger) -> Control:
    """Return the tags of a labelling config, after a warning if its labels differ from the model's."""
    try:
        control = parse_label_config(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise KonerError(f"{config} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KonerError(f"{config} is not UTF-8") from None
    except KonerError as error:
        raise KonerError(f"{config}: {error}") from None
    if difference := describe_difference(control, tagger.label_set):
        click.echo(f"koner: {config}: {escape_controls(difference)}", err=True)
    return control


def _check_labels(model: Path, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the types of the options, after checking that the model has them."""
    from koner.inference.model_folder import read_config
    from koner.labels.label_set import LabelSet

    types = LabelSet.from_tags(read_config(model).token_labels).types
    decoded = tuple(decode_argument(label, "--label") for label in labels)
    if unknown := next((label for label in decoded if label not in types), None):
        raise KonerError(f"--label: the model has no type '{escape_controls(unknown)}'; it has {', '.join(types)}")
    return decoded


def _tag_chunks(
    chunks: Iterable[list[str]], tagger: Tagger, layout: Layout, min_score: float, labels: tuple[str, ...]
) -> None:
    """Tag texts and print the results of each chunk at once."""
    from tqdm import tqdm

    from koner.inference.answers import filter_entities

    numbers = count(1)
    before = layout.start
    # A progress bar would garble results that are printed on the same terminal.
    with tqdm(unit=" texts", disable=sys.stdout.isatty() or not sys.stderr.isatty()) as progress:
        for chunk in chunks:
            results = []
            for text, tagged in zip(chunk, tagger.tag_all(chunk), strict=True):
                entities = filter_entities(tagged.entities, min_score, labels or None)
                results.append(before + layout.format(next(numbers), text, entities))
                before = layout.between
            _print("".join(results))
            progress.update(len(chunk))
    _print((layout.start if before == layout.start else "") + layout.end)


def _tag_corpus(source: str, output: str, model: Path, engine: EngineName, settings: dict[str, Any]) -> None:
    from koner.bulk.run import tag_corpus

    explicit_settings = {name: value for name, value in settings.items() if value is not None}
    with exit_on_interrupt():
        for name in ("column", "into"):
            if name in explicit_settings:
                explicit_settings[name] = decode_argument(explicit_settings[name], f"--{name}")
        total = tag_corpus(source, output, model, engine, corpus_progress(), **explicit_settings)
    click.echo(total)


def corpus_progress() -> Any:
    """Return a progress bar of rows, to be created with their number."""
    from tqdm import tqdm

    # In a log, unlike on a terminal, every update is a line.
    seconds = 0.1 if sys.stderr.isatty() else 30
    return partial(tqdm, unit=" rows", mininterval=seconds, maxinterval=seconds, smoothing=0)


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Exit without a traceback on Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _open_chunks(texts: Iterable[str], files: Iterable[str], open_files: ExitStack) -> Iterator[list[str]]:
    """Check the texts and open all files at once, so that errors are reported before any text is tagged."""
    decoded_texts = [decode_argument(text, f"TEXT {number}") for number, text in enumerate(texts, start=1)]
    streams: list[tuple[Reader, str]] = []
    for path in files:
        if path == "-":
            if sys.stdin is None:
                raise KonerError("standard input can't be read: it is closed")
            streams.append((cast("Reader", sys.stdin.buffer), "standard input"))
            continue
        try:
            streams.append((open_files.enter_context(open(path, "rb")), path))  # noqa: SIM115
        except OSError as error:
            raise KonerError(f"{path} can't be read: {error.strerror}") from None
    return chain([decoded_texts] if decoded_texts else [], *(line_chunks(stream, name) for stream, name in streams))


def decode_argument(value: str, name: str) -> str:
    """Return the text of an argument, which Python decodes by the locale: all Hangul is invalid in the locale C."""
    try:
        value.encode("utf-8")
        return value
    except UnicodeEncodeError:
        # Bytes that are not valid in the locale have become lone surrogates.
        try:
            return os.fsencode(value).decode("utf-8")
        except UnicodeError:
            raise KonerError(f"{name} is not UTF-8") from None


def _print(results: str) -> None:
    try:
        # Bytes are written as UTF-8 in any locale.
        click.echo(results.encode("utf-8"), nl=False)
    except BrokenPipeError:
        raise  # click exits silently
    except OSError as error:
        raise KonerError(f"the results can't be written: {error.strerror}") from None
