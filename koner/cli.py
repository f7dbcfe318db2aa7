"""The `koner` command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, cast, get_args

import click
from click.core import ParameterSource

from koner.answers import OFFSETS, Offsets, chosen
from koner.errors import KonerError, told_plainly
from koner.labels import TYPES
from koner.tag_formats import FORMATS, Format, written
from koner.text_lines import Reader, line_chunks

# What a shell gives for a command that Ctrl-C ended: 128 and the signal's number.
_INTERRUPTED = 130
# Not imported from where they are used: that is slow.
EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
INPUT_FORMATS = ("parquet", "jsonl", "text")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="koner")
def main() -> None:
    """Korean named-entity recognition: reproduce with `dvc repro`, compare with `dvc metrics diff`."""


@main.command()
@click.argument("name", metavar="[sample|klue]")
@click.option(
    "--params",
    "path",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The parameters file to rewrite.",
)
def recipe(name: str, path: Path) -> None:
    """Write a recipe's values into params.yaml, where every later run stays on them."""
    # Slow to import, as what the commands below import is.
    from koner.params import switch_recipe

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
    from koner.comparison import as_json, load_predictions_of, render
    from koner.comparison import compare as compared

    with told_plainly():
        comparison = compared(load_predictions_of(a, repo), load_predictions_of(b, repo), resamples, seed, names=(a, b))
    click.echo(json.dumps(as_json(comparison), ensure_ascii=False, indent=2) if json_ else render(comparison, show))


@main.command()
@click.argument("texts", nargs=-1, metavar="[TEXT]... | INPUT OUTPUT")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    help="A UTF-8 file of texts, one a line; - is standard input. May be given again.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="A table to look at; a line of JSON a text, as POST /infer answers; the text with <서울:LC> marks.",
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
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Leave out entities of a lower score.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    type=click.Choice(TYPES),
    help="Give entities of this type only. May be given again.",
)
@click.option(
    "--offsets",
    type=click.Choice(OFFSETS),
    default="codepoint",
    show_default=True,
    help="What start and end count: code points (Python), or UTF-16 code units (JavaScript, Java).",
)
@click.option("--device", help="What runs the model: cpu, cuda, ...; else what is fastest here.")
@click.option(
    "--threads", type=click.IntRange(1), help="Threads for the model; else one a core. Of each worker; else 1."
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Tag the corpus INPUT into the folder OUTPUT, by processes on this machine or by actors on a Ray cluster.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="With --engine: processes or actors; else one a core, or a GPU."
)
@click.option(
    "--input-format",
    type=click.Choice(INPUT_FORMATS),
    help="With --engine: what INPUT holds; else its files' endings tell.",
)
@click.option("--column", help="With --engine: the column of the texts; else text.")
@click.option("--into", help="With --engine: the new column; else entities.")
@click.option("--block-rows", type=click.IntRange(1), help="With --engine: rows in a file of OUTPUT; else 10000.")
def tag(
    texts: tuple[str, ...],
    files: tuple[str, ...],
    format_: Format,
    model: Path,
    min_score: float,
    labels: tuple[str, ...],
    offsets: Offsets,
    device: str | None,
    threads: int | None,
    engine: EngineName | None,
    **corpus: Any,
) -> None:
    """Find the named entities of each TEXT, of each line of the files, or else of standard input.

    Every text gets its result, in order, an empty one too. Results come as the input does.

    With --engine, tag a corpus of any size: INPUT is a file, a pattern or a folder of Parquet, JSON lines or text,
    OUTPUT a folder that gets Parquet files of the same columns and `entities`; both may be addresses such as s3://....
    Started again after a kill, it goes on where it stopped. Malformed rows go to OUTPUT/_rejected, with the reason.
    """
    if engine:
        if (
            len(texts) != 2
            or files
            or click.get_current_context().get_parameter_source("format_") is ParameterSource.COMMANDLINE
        ):
            raise click.UsageError("--engine takes INPUT and OUTPUT, and neither --file nor --format")
        corpus |= {"min_score": min_score, "labels": sorted(set(labels)) or None, "offsets": offsets}
        _tag_corpus(*texts, model, engine, corpus | {"device": device, "threads": threads})
        return
    if foreign := next((name for name, value in corpus.items() if value is not None), None):
        raise click.UsageError(f"--{foreign.rstrip('_').replace('_', '-')} needs --engine")
    try:
        with told_plainly(), ExitStack() as opened:
            chunks = _chunks(texts, files or (() if texts else ("-",)), opened)
            from tqdm import tqdm

            from koner.tagger import Tagger

            tagger = Tagger.load(model, device, threads)
            number = count(1)
            # On the results' own terminal, a bar among them would only be in the way.
            with tqdm(unit=" texts", disable=sys.stdout.isatty() or not sys.stderr.isatty()) as progress:
                for chunk in chunks:
                    results = [
                        written(format_, next(number), text, chosen(tagged, min_score, labels or None), offsets)
                        for text, tagged in zip(chunk, tagger.tag_all(chunk), strict=True)
                    ]
                    _print("".join(results))
                    progress.update(len(chunk))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _tag_corpus(source: str, output: str, model: Path, engine: EngineName, given: dict[str, Any]) -> None:
    from tqdm import tqdm

    from koner.bulk.run import tag_corpus

    try:
        # Not on a terminal but in a log, where every step is a line.
        seconds = 0.1 if sys.stderr.isatty() else 30
        progress = partial(tqdm, unit=" rows", mininterval=seconds, maxinterval=seconds, smoothing=0)
        settings = {name: value for name, value in given.items() if value is not None}
        with told_plainly():
            total = tag_corpus(source, output, model, engine, progress, **settings)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    click.echo(total)


def _chunks(texts: Iterable[str], files: Iterable[str], opened: ExitStack) -> Iterator[list[str]]:
    """Checks the texts and opens every file at once, so that a wrong one is told before any is tagged."""
    for number, text in enumerate(texts, start=1):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise KonerError(f"TEXT {number} is not UTF-8")
    streams: list[tuple[Reader, str]] = []
    for path in files:
        if path == "-":
            streams.append((cast("Reader", sys.stdin.buffer), "standard input"))
            continue
        try:
            streams.append((opened.enter_context(open(path, "rb")), path))  # noqa: SIM115
        except OSError as error:
            raise KonerError(f"{path} can't be read: {error.strerror}") from None
    return chain([list(texts)] if texts else [], *(line_chunks(stream, name) for stream, name in streams))


def _print(results: str) -> None:
    try:
        # As bytes, they are UTF-8 whatever the locale says.
        click.echo(results.encode("utf-8"), nl=False)
    except BrokenPipeError:
        raise  # click ends the program without a word
    except OSError as error:
        raise KonerError(f"the results can't be written: {error.strerror}") from None


@main.command()
@click.option("--host", help="The address to listen on, in place of HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on, in place of PORT.")
@click.option("--workers", type=click.IntRange(1), help="How many processes, in place of WORKERS.")
@click.option(
    "--rev", metavar="REV", help="Serve the model that the dvc.lock of this Git revision pins, in place of KONER_MODEL."
)
def serve(host: str | None, port: int | None, workers: int | None, rev: str | None) -> None:
    """Serve the model over HTTP: POST /infer, and a page to try it on.

    Everything else is set in the environment; the README lists it.
    """
    given: dict[str, object] = {"HOST": host, "PORT": port, "WORKERS": workers}
    if rev is not None:
        from koner.locking import LOCK_FILE
        from koner.revisions import MODEL, fetch_model

        with told_plainly():
            fetched = fetch_model(rev)
        root = Path(os.path.relpath(fetched.root))
        given |= {"KONER_MODEL": root / MODEL, "KONER_LOCK": root / LOCK_FILE, "KONER_REVISION": fetched.commit}
    environment = os.environ | {name: str(value) for name, value in given.items() if value is not None}
    # The process becomes the service, so that signals meet it directly.
    os.execve(sys.executable, [sys.executable, "-m", "app"], environment)  # noqa: S606
