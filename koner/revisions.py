"""The model of a Git revision, laid out beside the lock file that pins it, so that it is served as a checkout's is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from dvc.scm import NoSCMError, RevError

from koner.errors import KonerError
from koner.locking import LOCK_FILE, METRICS_FILE, folder_hash, locked_hash

MODEL = Path("models/ner")


@dataclass(frozen=True, slots=True)
class ModelOfRevision:
    """A folder that holds a revision's `models/ner`, `dvc.lock` and test figures, if any; and the revision's commit."""

    root: Path
    commit: str


def fetch_model(revision: str, repo: str | Path = ".") -> ModelOfRevision:
    """Lays out the model that a revision's `dvc.lock` pins, out of DVC's cache or else the default remote.

    The revision is a commit, branch or tag of Git, or a DVC experiment. The folder lies in DVC's own for temporary
    files, one for each commit, and is found there the next time; the working tree and the cache stay as they are.
    Raises `KonerError` where there is no such revision, where it pins no model, and where neither cache nor remote
    give what it pins; nothing is left behind then.
    """
    if not revision:
        # DVC reads an empty name as the workspace.
        raise KonerError("the revision's name is empty; name a commit, a branch or a tag")
    with _told(revision), Repo(str(repo)) as project, project.switch(revision) as commit:
        root = Path(project.tmp_dir) / "koner" / commit
        if not _whole(root):
            root.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=root.parent, prefix="draft-") as scratch:
                draft = Path(scratch) / commit
                _lay_out(revision, project.dvcfs, draft)
                _put(draft, root)
        return ModelOfRevision(root, commit)


def _put(draft: Path, root: Path) -> None:
    # Another process may have fetched the same meanwhile, and may be serving it.
    if not _whole(root):
        shutil.rmtree(root, ignore_errors=True)
        draft.rename(root)


def _whole(root: Path) -> bool:
    try:
        return folder_hash(root / MODEL) == locked_hash(root / LOCK_FILE, MODEL.as_posix())
    except (KonerError, OSError):
        return False


def _from_root(path: Path) -> str:
    # A relative one would count from the current folder, which may lie deeper.
    return f"/{path.as_posix()}"


def _lay_out(revision: str, files: Any, to: Path) -> None:
    to.mkdir()
    try:
        files.get_file(_from_root(LOCK_FILE), str(to / LOCK_FILE))
        pinned = locked_hash(to / LOCK_FILE, MODEL.as_posix())
    except (FileNotFoundError, KonerError):
        raise KonerError(f"{revision} has no {LOCK_FILE} that pins {MODEL}") from None
    if files.exists(_from_root(METRICS_FILE)):
        (to / METRICS_FILE).parent.mkdir()
        files.get_file(_from_root(METRICS_FILE), str(to / METRICS_FILE))
    (to / MODEL).parent.mkdir()
    try:
        files.get(_from_root(MODEL), str(to / MODEL), recursive=True)
        found = folder_hash(to / MODEL)
    except FileNotFoundError:
        raise KonerError(
            f"{revision}: neither DVC's cache nor a remote has all of {MODEL}; run `dvc push` where it was made"
        ) from None
    if found != pinned:
        raise KonerError(
            f"{revision}: {MODEL} came damaged out of DVC's cache or remote: "
            f"its hash is {found}, the pinned one {pinned}"
        )


@contextmanager
def _told(revision: str) -> Iterator[None]:
    """Turns whatever DVC and its remotes raise into one sentence."""
    try:
        yield
    except KonerError:
        raise
    except RevError as error:
        raise KonerError(f"{error}; `git log` and `git tag` list what can be named") from None
    except (NotDvcRepoError, NoSCMError):
        raise KonerError(
            "a revision's model is found in a Git repository with DVC, and this folder is in none"
        ) from None
    except Exception as error:  # every kind of remote has errors of its own
        cause: BaseException = error
        # DVC's own says only that something failed.
        while type(cause).__module__.startswith("dvc") and cause.__cause__:
            cause = cause.__cause__
        why = " ".join(str(cause).split()) or type(cause).__name__
        # One of the file system names a file.
        if isinstance(cause, PermissionError) and cause.filename is None:
            raise KonerError(f"{revision}: the remote of {MODEL} refuses these credentials ({why})") from None
        raise KonerError(f"{revision}: {MODEL} can't be fetched: {why}") from None
