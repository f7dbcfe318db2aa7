"""Whether a model folder is the one that `dvc.lock` pins, told without DVC, which takes a second to import."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from koner.errors import KonerError
from koner.params import read_yaml

LOCK_FILE = Path("dvc.lock")
METRICS_FILE = Path("metrics/evaluate.json")
# What DVC passes over wherever it stands.
_IGNORED_FOLDERS = {".git", ".hg"}
_IGNORED_FILES = {".git"}

_md5 = partial(hashlib.md5, usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class LockedModel:
    """A model folder, DVC's hash of what it holds, and the hash that the lock file pins for it, None for no such."""

    folder: Path
    hash: str
    pinned: str | None

    @property
    def locked(self) -> bool:
        """Tells whether the folder holds exactly what the lock file pins."""
        return self.hash == self.pinned


@dataclass(frozen=True, slots=True)
class ServedFacts:
    """What a checkout says of its model: the Git revision, None outside Git, and the test figures, None without."""

    revision: str | None
    metrics: dict[str, Any] | None


def folder_hash(folder: Path) -> str:
    """DVC's hash of an output as `dvc.lock` holds it: `<md5>.dir` of a folder, the MD5 of a single file.

    As DVC does, it passes over linked and empty folders and what belongs to Git and Mercurial; unlike DVC it knows no
    `.dvcignore`. Raises `OSError` for what is missing or can't be read.
    """
    if folder.is_file():
        return _file_md5(folder)
    listed = [{"md5": _file_md5(path), "relpath": path.relative_to(folder).as_posix()} for path in _files(folder)]
    listed.sort(key=itemgetter("relpath"))
    return f"{_md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()}.dir"


def locked_hash(lock: Path, path: str) -> str:
    """The hash that a lock file of DVC pins for the output `path`, as written there.

    Raises `KonerError` where there is no such lock file or it pins no such output.
    """
    try:
        stages = read_yaml(lock)["stages"].values()
        pinned = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", [])}
    except OSError as error:
        raise KonerError(f"{lock} can't be read: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError):
        raise KonerError(f"{lock} is no lock file of DVC") from None
    if not pinned.get(path):
        raise KonerError(f"{lock} pins no output '{path}'; run `dvc repro`")
    return str(pinned[path])


def check_locked(
    root: Path, folder: str | Path, allow_unlocked: bool = False, lock: str | Path = LOCK_FILE
) -> LockedModel:
    """Tells what a model folder holds and what the lock file pins for it; both paths count from `root`.

    Raises `KonerError` where the folder is missing, and, without `allow_unlocked`, where it isn't what is pinned.
    """
    at, lock_at = root / folder, root / lock
    instead = f"(KONER_ALLOW_UNLOCKED=1 serves {folder} as it is)"
    if not at.exists():
        raise KonerError(f"{folder} is missing; run `dvc repro` to train it or `dvc pull` to fetch it")
    try:
        found = folder_hash(at)
    except OSError as error:
        raise KonerError(f"{error.filename or folder} can't be read: {error.strerror}") from None
    pinned = None
    try:
        pinned = locked_hash(lock_at, Path(os.path.relpath(at, lock_at.parent)).as_posix())
    except KonerError as error:
        if not allow_unlocked:
            raise KonerError(f"{error} {instead}") from None
    if found != pinned and not allow_unlocked:
        raise KonerError(
            f"{folder} is not what {lock} pins: its hash is {found}, the pinned one {pinned}; "
            f"run `dvc checkout` to have that one or `dvc repro` to train anew {instead}"
        )
    return LockedModel(at, found, pinned)


def served_facts(root: Path) -> ServedFacts:
    """Reads the Git revision and the test figures of a checkout; raises `KonerError` for figures that aren't JSON."""
    try:
        metrics = json.loads((root / METRICS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        metrics = None
    except ValueError as error:
        raise KonerError(f"{METRICS_FILE} is not valid JSON: {error}") from None
    return ServedFacts(_revision(root), metrics)


def _revision(root: Path) -> str | None:
    # A copy without history may lie inside another repository, whose revision would say nothing about it.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.resolve().parent)}
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"],  # noqa: S607 (wherever it is installed)
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS]
        yield from (Path(at, name) for name in names if name not in _IGNORED_FILES)


def _raise(error: OSError) -> NoReturn:
    raise error
