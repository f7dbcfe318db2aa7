"""The commands `koner audit`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from koner.cli.source_options import SourceSettings, source_options
from koner.errors import KonerError

STAGES = Path("stages/audit")
_TRAINING = Path("data/retagged/train.parquet")


@click.group(invoke_without_command=True)
@click.pass_context
def audit(context: click.Context) -> None:
    """Find probable errors in the annotation of a corpus.

    Without a command, in a checkout after `dvc repro retag`: judge each training sentence by a model that was not
    trained on it, and write the candidates to stages/audit as candidates.csv, audit.html and tasks.json. The
    parameters are in stages/audit/params.yaml. An interrupted run resumes.
    """
    if context.invoked_subcommand is None:
        _run_stages()


def _run_stages() -> None:
    if not (STAGES / "dvc.yaml").is_file():
        raise KonerError(f"{STAGES} is missing; run from the root of a checkout, or use `koner audit check SOURCE`")
    if not _TRAINING.is_file():
        raise KonerError(f"{_TRAINING} is missing; run `dvc repro retag`")
    from koner.audit.params import load_audit_params

    # DVC divides the stage by the list of folds before a stage could check it.
    load_audit_params(STAGES / "params.yaml")
    # After an hour of training it would be late.
    if find_spec("cleanlab") is None:
        raise ModuleNotFoundError("No module named 'cleanlab'", name="cleanlab")
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=STAGES, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    figures = json.loads((STAGES / "metrics.json").read_text(encoding="utf-8"))
    _echo_counts(figures["candidates"], figures["doubtful_sentences"], figures["by_check"])
    click.echo(f"written: {', '.join(str(STAGES / name) for name in ('candidates.csv', 'audit.html', 'tasks.json'))}")


def _echo_counts(candidates: int, sentences: int, by_check: dict[str, int]) -> None:
    counts = ", ".join(f"{check} {count:,}" for check, count in sorted(by_check.items()))
    click.echo(f"{candidates:,} candidates in {sentences:,} sentences" + (f": {counts}" if counts else ""))


@audit.command()
@click.argument("source")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--shown",
    default=300,
    show_default=True,
    type=click.IntRange(1),
    help="The number of sentences in the page and in the tasks.",
)
@source_options
def check(source: str, output: Path, shown: int, settings: SourceSettings) -> None:
    """Check the annotated corpus SOURCE, in any known format, without a model.

    Writes a folder OUTPUT with candidates.csv, audit.html and tasks.json.
    """
    from koner.audit.outputs import write_outputs
    from koner.audit.source_check import check_source
    from koner.storage.outputs import atomic_directory

    if output.exists():
        raise KonerError(f"{output} exists already; name a new folder")
    result = check_source(source, settings.read, settings.rules())
    with atomic_directory(output) as folder:
        figures = write_outputs(folder, result.candidates, result.sentences, result.styles, shown)
    _echo_counts(figures["candidates"], figures["doubtful_sentences"], figures["by_check"])


@audit.command()
@click.argument("export", type=click.Path(path_type=Path))
@click.option("--source", help="The corpus; default: that of params.yaml, as it is read there.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("corrections.patch"),
    show_default=True,
    help="The patch to write.",
)
@click.option("--annotator", metavar="PERSON", help="Read this person's annotations.")
@click.option("--skip-changed", is_flag=True, help="Leave out sentences that changed after the audit.")
@source_options
def apply(
    export: Path, source: str | None, output: Path, annotator: str | None, skip_changed: bool, settings: SourceSettings
) -> None:
    """Turn EXPORT, the corrected tasks as Label Studio exports them (JSON), into a patch of the corpus.

    `git apply` applies the patch.
    """
    from koner.audit.corpus_files import find_corpus_files
    from koner.audit.corrections import make_patch, read_corrections
    from koner.storage.outputs import atomic_file

    if output.exists():
        raise KonerError(f"{output} exists already; apply or remove it, or name a new file by --output")
    if source is None:
        source, settings = _pipeline_source()
    files = find_corpus_files(source, settings.source_format, settings.encoding)
    corrections = read_corrections(export, annotator)
    patch = make_patch(corrections, files, settings.rules(), skip_changed=skip_changed)
    if patch.changed:
        click.echo(f"{len(patch.changed)} sentences changed after the audit and are left out")
    if not patch.sentences:
        click.echo("no annotation was corrected; no patch is written")
        return
    with atomic_file(output) as draft:
        draft.write_bytes(patch.diff)
    click.echo(f"{patch.sentences} sentences in {patch.files} files are corrected; type `git apply {output}`")


def _pipeline_source() -> tuple[str, SourceSettings]:
    """Return the source of the pipeline and how it is read there."""
    from koner.params import load_params

    params = load_params()
    if params.label_map:
        raise KonerError(
            "label_map is set in params.yaml, so the audit saw other labels than the source has; corrections can't be "
            "written back"
        )
    return params.source, SourceSettings(
        params.source_format, params.encoding, params.source_config, params.overlaps, params.illegal_bio
    )
