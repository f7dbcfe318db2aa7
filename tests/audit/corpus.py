"""Annotated lines as sentences, and a repository that holds them in some format."""

import subprocess

from koner.corpus.checks import RawSentence, check
from koner.corpus.formats.registry import find_format


def sentences(*lines):
    return [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(lines, start=1)]


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def write_repository(folder, format_, annotated):
    """Write sentences to `corpus/train.*` in a new repository, and return the file."""
    path = folder / "corpus" / f"train{find_format(format_).extension}"
    path.parent.mkdir()
    find_format(format_).write(path, annotated)
    git(folder, "init", "--quiet")
    return path
