"""Predictions of git revisions and DVC experiments, from DVC's cache or remote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import RevError

from koner.errors import KonerError, first_line
from koner.inference.predictions import Prediction, read_label_set, read_predictions
from koner.labels.label_set import LabelSet
from koner.release.hashing import file_md5
from koner.release.revisions import NO_COMMIT, WORKSPACE, check_revision_name, resolve_commit

PREDICTIONS = Path("data/predictions.parquet")
_REMEDY = "run `dvc pull`, or check the revision out and run `dvc repro`"


def load_predictions_of(revision: str, repo: str | Path = ".") -> tuple[list[Prediction], LabelSet]:
    """Return the predictions of a git revision or a DVC experiment, and its label set; for `workspace`, those on disk.

    What the cache does not hold is read from the default remote.

    Raises:
        KonerError: If the revision does not exist or has no predictions, or if neither the cache nor the remote has
            their data.
    """
    check_revision_name(revision)
    if revision == WORKSPACE:
        path = Path(repo) / PREDICTIONS
        return read_predictions(path), read_label_set(path)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / PREDICTIONS.name
        _copy_predictions(revision, repo, copy)
        try:
            return read_predictions(copy), read_label_set(copy)
        except KonerError:
            raise KonerError(f"{revision}: {PREDICTIONS} holds no predictions of the evaluate stage") from None


def _copy_predictions(revision: str, repo: str | Path, target: Path) -> None:
    path = PREDICTIONS.as_posix()
    info: dict[str, Any] = {}
    with closing(DVCFileSystem(repo, rev=revision)) as filesystem, _convert_errors(revision):
        _check_commit(filesystem, revision)
        try:
            info = filesystem.info(path)
            filesystem.get_file(path, str(target))
        except FileNotFoundError:
            # The output of a stage that never ran is declared, but has no content.
            if "md5" not in info:
                raise KonerError(f"{revision} has no {path}; check it out and run `dvc repro`") from None
            raise KonerError(f"{revision}: neither the cache nor a remote that answers has {path}; {_REMEDY}") from None
    # DVC takes the content of its cache for right.
    if "md5" in info and file_md5(target) != info["md5"]:
        raise KonerError(
            f"{revision}: {path} is damaged in DVC's cache or remote: its MD5 is not {info['md5']}; delete the object "
            f"of this name there, and {_REMEDY}"
        )


@contextmanager
def _convert_errors(revision: str) -> Iterator[None]:
    """Raise a `KonerError` of one sentence for any error of DVC and its remotes."""
    try:
        yield
    except KonerError:
        raise
    except RevError as error:
        raise KonerError(f"{error}; `git log` and `dvc exp show` list what can be named") from None
    except DvcException as error:
        raise KonerError(f"{revision} can't be read: {error}") from None
    except Exception as error:  # each kind of remote has its own errors
        if isinstance(error, OSError) and error.filename:
            # A file here, such as one of DVC's own cache, and not the remote.
            raise KonerError(f"{revision} can't be read: {error.filename}: {error.strerror}") from None
        raise KonerError(
            f"{revision}: the remote of {PREDICTIONS.as_posix()} can't be read ({first_line(error)}); {_REMEDY}"
        ) from None


def _check_commit(filesystem: DVCFileSystem, revision: str) -> None:
    try:
        resolve_commit(filesystem.repo.scm, filesystem.repo.get_rev())
    except AttributeError:
        # DVC opens a folder or a file of a commit as if it were the commit.
        raise KonerError(NO_COMMIT.format(revision)) from None
