"""Corrections that come back from Label Studio, as a patch to the files of the corpus."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from koner.annotation.annotators import check_one_annotator, is_export, select_annotator
from koner.audit.corpus_files import CorpusFile
from koner.audit.fingerprints import FINGERPRINT_FIELD, fingerprint
from koner.corpus.checks import FaultReport, check_all
from koner.corpus.formats.base import ReadOptions
from koner.corpus.formats.json_files import read_items
from koner.corpus.formats.label_studio import read_label_studio
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import Rules
from koner.errors import KonerError
from koner.labels.bio import Entity, entities_to_bio

_MOST_NAMED = 5


@dataclass(frozen=True)
class Correction:
    """The annotation of a sentence in an export.

    Attributes:
        id: The id of the sentence.
        fingerprint: The fingerprint of the sentence when it was audited.
        sentence: The sentence as it was annotated.
    """

    id: str
    fingerprint: str
    sentence: Sentence


def read_corrections(export: Path, annotator: str | None = None) -> list[Correction]:
    """Return the annotations of the tasks in an export of Label Studio that the audit wrote.

    Args:
        export: The export.
        annotator: The person whose annotations count; needed if a task has those of several people.

    Raises:
        KonerError: If the export is not valid, a task is none of the audit, or several people annotated a task.
    """
    if not export.is_file():
        raise KonerError(f"{export} is missing")
    if not is_export(export):
        raise KonerError(f"{export} is not a JSON export of Label Studio")
    with TemporaryDirectory() as folder:
        if annotator is not None:
            select_annotator(export, annotator, Path(folder) / export.name)
            return _read_corrections(Path(folder) / export.name)
        check_one_annotator(export, "--annotator")
        return _read_corrections(export)


def _read_corrections(export: Path) -> list[Correction]:
    fingerprints: dict[str, str] = {}
    for number, task in enumerate(read_items(export, "utf-8"), start=1):
        data = task.get("data") if isinstance(task, Mapping) else None
        if not isinstance(data, Mapping) or not all(isinstance(data.get(k), str) for k in ("id", FINGERPRINT_FIELD)):
            raise KonerError(
                f"{export.name}, item {number}: it is no task of an audit: its data has no 'id' and "
                f"'{FINGERPRINT_FIELD}'"
            )
        fingerprints[data["id"]] = data[FINGERPRINT_FIELD]
    faults = FaultReport()
    sentences = list(check_all(read_label_studio(export, ReadOptions()), faults))
    faults.raise_if_any()
    return [Correction(sentence.id, fingerprints[sentence.id], sentence) for sentence in sentences]


@dataclass(frozen=True)
class Patch:
    """A patch of the files of a corpus.

    Attributes:
        diff: The patch as `git diff` writes it; empty if nothing changes.
        sentences: The number of sentences that it corrects.
        files: The number of files that it changes.
        changed: The ids of the corrected sentences that changed after the audit, which it leaves out.
    """

    diff: bytes
    sentences: int
    files: int
    changed: list[str]


def make_patch(
    corrections: Sequence[Correction], files: Sequence[CorpusFile], rules: Rules, *, skip_changed: bool = False
) -> Patch:
    """Return the patch that brings corrections into the files of a corpus.

    Args:
        corrections: The corrections.
        files: The files of the corpus.
        rules: How the files are read.
        skip_changed: Whether to leave out sentences that changed after the audit, which else are an error.

    Raises:
        KonerError: If a sentence changed after the audit or is gone, or a file does not hold its sentence in the form
            in which koner writes it.
    """
    by_id = {correction.id: correction for correction in corrections}
    changed = set(by_id)
    versions: list[tuple[CorpusFile, str, str]] = []
    corrected = 0
    for file in files:
        replacements = []
        sentences = file.read(rules)
        for where, sentence in sentences:
            correction = by_id.get(sentence.id)
            if correction is None or correction.sentence.text != sentence.text:
                continue
            if set(correction.sentence.entities) == set(sentence.entities):
                changed.discard(sentence.id)
            elif correction.fingerprint == fingerprint(sentence.text, sentence.entities):
                changed.discard(sentence.id)
                replacements.append((where, sentence, _with_entities(sentence, correction.sentence.entities)))
        if replacements:
            versions.append((file, *_rewrite(file, sentences, replacements, rules)))
            corrected += len(replacements)
    left_out = [id_ for id_ in by_id if id_ in changed]
    if left_out and not skip_changed:
        raise KonerError(_describe_changed(left_out, len(by_id)))
    return Patch(_diff(versions), corrected, len(versions), left_out)


def _describe_changed(ids: Sequence[str], total: int) -> str:
    named = ", ".join(ids[:_MOST_NAMED]) + (", …" if len(ids) > _MOST_NAMED else "")
    return (
        f"{len(ids)} of the {total} sentences in the export changed in the corpus after the audit ({named}); audit "
        "them again, or leave them out with --skip-changed"
    )


def _with_entities(sentence: Sentence, entities: Sequence[Entity]) -> Sentence:
    return replace(sentence, entities=tuple(entities), tags=tuple(entities_to_bio(entities, len(sentence.text))))


def _rewrite(
    file: CorpusFile,
    sentences: Sequence[tuple[str, Sentence]],
    replacements: Sequence[tuple[str, Sentence, Sentence]],
    rules: Rules,
) -> tuple[str, str]:
    """Return the content of a file, and the content with replaced sentences.

    Raises:
        KonerError: If a sentence can't be replaced, or the new content would not be read as it should.
    """
    with file.path.open(encoding=file.encoding, newline="") as stream:
        old = new = stream.read()
    # From the end, because a sentence may become longer.
    for where, before, after in reversed(replacements):
        new = file.replace(new, where, before, after)
    expected = {before.id: after for _, before, after in replacements}
    with TemporaryDirectory() as folder:
        draft = Path(folder) / file.path.name
        draft.write_text(new, encoding=file.encoding, newline="")
        written = [sentence for _, sentence in file.read(rules, draft)]
    if written != [expected.get(sentence.id, sentence) for _, sentence in sentences]:
        raise KonerError(f"{file.path}: the format {file.format.name} can't hold one of the corrections")
    return old, new


def _diff(versions: Sequence[tuple[CorpusFile, str, str]]) -> bytes:
    """Return the difference of two versions of files, with paths from the root of their repository."""
    if not versions:
        return b""
    with TemporaryDirectory() as folder:
        for file, *contents in versions:
            path = file.path.resolve()
            for side, content in zip("ab", contents, strict=True):
                copy = Path(folder) / side / path.relative_to(_repository(path))
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(content, encoding=file.encoding, newline="")
        options = ["-c", "core.autocrlf=false", "-c", "core.quotepath=false"]
        command = ["git", *options, "diff", "--no-index", "--no-ext-diff", "--no-color", "--no-prefix", "a", "b"]
        # No settings of the user, such as another set of prefixes.
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, env=environment, check=False)  # noqa: S603
        except FileNotFoundError:
            raise KonerError("git is not installed, which writes the patch") from None
    if done.returncode != 1:
        raise KonerError(f"git can't write the patch: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _repository(path: Path) -> Path:
    """Return the root of the repository that holds a file, or its folder if none does."""
    return next((folder for folder in path.parents if (folder / ".git").exists()), path.parent)
