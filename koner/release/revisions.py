"""The model of a Git revision, fetched into a folder of its own beside the lock file that pins it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvc.config import NoRemoteError
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from dvc.scm import NoSCMError, RevError, resolve_rev

from koner.errors import KonerError, first_line
from koner.release.hashing import folder_hash
from koner.release.locking import LOCK_FILE, METRICS_FILE, locked_hash
from koner.release.objects import fetch_folder

MODEL_FOLDER = Path("models/ner")
# DVC's name for the files on disk, which are no revision.
WORKSPACE = "workspace"
NO_COMMIT = "'{}' is not a commit; name a commit, a branch, a tag or a DVC experiment"
_LONGEST_NAME = 250  # characters


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A folder with `models/ner`, `dvc.lock` and, if there are any, metrics of a revision; and the commit's hash."""

    root: Path
    commit: str


def check_revision_name(name: str) -> None:
    """Raise `KonerError` for a text that cannot name a revision, which Git and DVC would read in ways of their own."""
    if not name:
        # DVC reads an empty name as the workspace.
        raise KonerError("the name of the revision is empty; name a commit, a branch, a tag or a DVC experiment")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise KonerError(
            f"{name[:40]!r} cannot name a revision: a name has at most {_LONGEST_NAME} characters, all printable"
        )


def resolve_commit(scm: Any, name: str) -> str:
    """Return the hash of the commit that a name stands for.

    Args:
        scm: DVC's object for the Git repository.
        name: A commit, branch or tag, an expression such as `HEAD~1`, or a DVC experiment.

    Raises:
        KonerError: If the name stands for something else, such as a folder of a commit.
        RevError: If the name does not exist.
    """
    hash_ = resolve_rev(scm, name)
    try:
        return str(scm.resolve_commit(hash_).hexsha)
    except Exception:  # each of DVC's backends for Git has its own errors
        raise KonerError(NO_COMMIT.format(name)) from None


def fetch_model(revision: str, repo: str | Path = ".") -> FetchedModel:
    """Fetch the model that a revision's `dvc.lock` pins, from DVC's cache or else from the default remote.

    The model is stored in DVC's folder for temporary files, in one folder per commit, and is reused by later calls.
    The working tree and the cache do not change.

    Args:
        revision: A commit, branch or tag of Git, or a DVC experiment.
        repo: A folder of the repository.

    Raises:
        KonerError: If the revision does not exist or pins no model, or if neither the cache nor the remote has it. No
            incomplete model is left behind.
    """
    check_revision_name(revision)
    if revision == WORKSPACE:
        raise KonerError(
            f"'{WORKSPACE}' is not a revision but the files on disk, which are served without a revision; a branch of "
            f"this name is refs/heads/{WORKSPACE}"
        )
    with _convert_errors(revision), Repo(str(repo)) as project:
        commit = resolve_commit(project.scm, revision)
        root = Path(project.tmp_dir) / "koner" / commit
        if not _is_complete(root):
            root.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=root.parent, prefix="draft-") as parent, project.switch(commit):
                draft = Path(parent) / commit
                _download(revision, project, draft)
                _move_into_place(draft, root)
        return FetchedModel(root, commit)


def _move_into_place(draft: Path, root: Path) -> None:
    # Another process may have fetched the same model in the meantime, and may be serving it.
    if not _is_complete(root):
        shutil.rmtree(root, ignore_errors=True)
        draft.rename(root)


def _is_complete(root: Path) -> bool:
    try:
        return folder_hash(root / MODEL_FOLDER) == locked_hash(root / LOCK_FILE, MODEL_FOLDER.as_posix())
    except (KonerError, OSError):
        return False


def _repository_path(path: Path) -> str:
    # DVC resolves a relative path from the current folder, which may be below the root of the repository.
    return f"/{path.as_posix()}"


def _download(revision: str, project: Repo, folder: Path) -> None:
    """Write the lock file, the metrics and the model of a revision, to which `project` is switched, to a new folder."""
    folder.mkdir()
    try:
        project.dvcfs.get_file(_repository_path(LOCK_FILE), str(folder / LOCK_FILE))
    except FileNotFoundError:
        raise KonerError(f"{revision} has no {LOCK_FILE}, so it pins no model") from None
    try:
        pinned_hash = locked_hash(folder / LOCK_FILE, MODEL_FOLDER.as_posix())
    except KonerError as error:
        raise KonerError(f"{revision}: {str(error).replace(str(folder / LOCK_FILE), str(LOCK_FILE))}") from None
    if project.dvcfs.exists(_repository_path(METRICS_FILE)):
        (folder / METRICS_FILE).parent.mkdir()
        project.dvcfs.get_file(_repository_path(METRICS_FILE), str(folder / METRICS_FILE))
    (folder / MODEL_FOLDER).parent.mkdir()
    try:
        fetch_folder(_stores(project), pinned_hash, folder / MODEL_FOLDER, str(MODEL_FOLDER))
    except KonerError as error:
        raise KonerError(f"{revision}: {error}") from None


def _stores(project: Repo) -> list[Any]:
    """Return DVC's cache and, if there is one, the default remote."""
    try:
        return [project.cache.local, project.cloud.get_remote_odb(command="fetch")]
    except NoRemoteError:
        return [project.cache.local]


@contextmanager
def _convert_errors(revision: str) -> Iterator[None]:
    """Raise a `KonerError` of one sentence for any error of DVC and its remotes."""
    try:
        yield
    except KonerError:
        raise
    except RevError as error:
        raise KonerError(f"{error}; `git log` and `git tag` list the names that exist") from None
    except (NotDvcRepoError, NoSCMError):
        raise KonerError(
            "the model of a revision can only be fetched in a Git repository with DVC, and this folder is in none"
        ) from None
    except Exception as error:  # every kind of remote has its own errors
        cause: BaseException = error
        # DVC's own errors only say that something failed.
        while type(cause).__module__.startswith("dvc") and cause.__cause__:
            cause = cause.__cause__
        message = " ".join(first_line(cause).split())
        # A PermissionError of the local filesystem names a file; one of a remote does not.
        if isinstance(cause, PermissionError) and cause.filename is None:
            raise KonerError(
                f"{revision}: the remote of {MODEL_FOLDER} refuses these credentials ({message})"
            ) from None
        raise KonerError(f"{revision}: {MODEL_FOLDER} cannot be fetched: {message}") from None
