"""The comparison of a model folder with the hash that `dvc.lock` pins.

It works without DVC, whose import takes a second.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koner.errors import KonerError, first_line
from koner.release.hashing import folder_hash
from koner.release.objects import find_damaged_object
from koner.release.programs import read_output
from koner.validation import read_file, read_yaml

LOCK_FILE = Path("dvc.lock")
METRICS_FILE = Path("metrics/evaluate.json")

# The MD5 of a file, or of the list of the files of a folder.
_HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")
_LARGEST_METRICS = 4 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder, DVC's hash of its content, and the hash that the lock file pins, or None if it pins none."""

    path: Path
    hash: str
    pinned_hash: str | None

    @property
    def is_locked(self) -> bool:
        """Whether the content of the folder is exactly what the lock file pins."""
        return self.hash == self.pinned_hash


@dataclass(frozen=True, slots=True)
class ServedFacts:
    """The Git revision of a checkout (None outside Git) and the metrics of its model (None if there are none)."""

    revision: str | None
    metrics: dict[str, Any] | None


def locked_hash(lock: Path, path: str) -> str:
    """Return the hash that a lock file of DVC pins for an output.

    Args:
        lock: The lock file.
        path: The path of the output, as the lock file spells it.

    Raises:
        KonerError: If the lock file does not exist, is not valid, or does not pin the output.
    """
    try:
        stages = read_yaml(lock)["stages"].values()
        hashes = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", [])}
    except OSError as error:
        raise KonerError(f"{lock} cannot be read: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError):
        raise KonerError(f"{lock} is not a lock file of DVC") from None
    hash_ = hashes.get(path)
    if not hash_:
        raise KonerError(f"{lock} does not pin the output '{path}'; run `dvc repro`")
    if not isinstance(hash_, str) or not _HASH.fullmatch(hash_):
        raise KonerError(f"{lock}: the md5 of the output '{path}' is not an MD5 as DVC writes it; run `dvc repro`")
    return hash_


def check_locked(
    root: Path, folder: str | Path, allow_unlocked: bool = False, lock: str | Path = LOCK_FILE
) -> ModelFolder:
    """Hash a model folder and compare it with the lock file.

    Args:
        root: The folder that relative paths start from.
        folder: The model folder.
        allow_unlocked: Whether to accept a model that the lock file does not pin.
        lock: The lock file.

    Raises:
        KonerError: If the folder is missing or cannot be read or, unless `allow_unlocked`, if the lock file does not
            pin its content.
    """
    folder_path, lock_path = root / folder, root / lock
    override = f"(KONER_ALLOW_UNLOCKED=1 serves {folder} as it is)"
    if not folder_path.exists():
        raise KonerError(f"{folder} is missing; run `dvc repro` to train it or `dvc pull` to fetch it")
    try:
        hash_ = folder_hash(folder_path)
    except OSError as error:
        raise KonerError(f"{error.filename or folder} cannot be read: {error.strerror}") from None
    pinned_hash = None
    try:
        pinned_hash = locked_hash(lock_path, Path(os.path.relpath(folder_path, lock_path.parent)).as_posix())
    except KonerError as error:
        if not allow_unlocked:
            raise KonerError(f"{error} {override}") from None
    if hash_ != pinned_hash and not allow_unlocked:
        raise KonerError(
            f"{folder} is not the model that {lock} pins: its hash is {hash_}, the pinned hash is {pinned_hash}; "
            f"{_describe_remedy(lock_path.parent, str(folder), str(pinned_hash))} {override}"
        )
    return ModelFolder(folder_path, hash_, pinned_hash)


def _describe_remedy(root: Path, folder: str, pinned_hash: str) -> str:
    damaged_object = find_damaged_object(root, pinned_hash)
    if damaged_object is None:
        return "run `dvc checkout` to restore the pinned model or `dvc repro` to train it again"
    return (
        f"DVC's cache holds a damaged object, which `dvc checkout` does not notice: run `rm -rf "
        f"{shlex.join([str(damaged_object), folder])}`, and then `dvc pull` or, without a remote, `dvc repro`"
    )


def served_facts(lock: Path) -> ServedFacts:
    """Read the Git revision and the metrics of a checkout.

    Args:
        lock: The lock file, in the root of the checkout.

    Raises:
        KonerError: If the file of metrics is not valid JSON.
    """
    path = lock.parent / METRICS_FILE
    metrics = None
    try:
        metrics = json.loads(read_file(path, _LARGEST_METRICS).decode("utf-8"))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KonerError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise KonerError(f"{path} is not valid JSON: {first_line(error)}") from None
    if not isinstance(metrics, dict | None):
        raise KonerError(f"{path} is not a JSON object")
    return ServedFacts(_revision_of(lock), metrics)


def _revision_of(lock: Path) -> str | None:
    """Return the commit that is checked out, if the lock file is the one in it."""
    if not lock.is_file():
        return None
    committed = _git(lock.parent, "rev-parse", "--verify", f"HEAD:./{lock.name}")
    if committed is None or committed != _git(lock.parent, "hash-object", "--", lock.name):
        return None
    return _git(lock.parent, "rev-parse", "--verify", "HEAD")


def _git(root: Path, *arguments: str) -> str | None:
    """Return what a command of Git prints in a folder, or None if it fails."""
    # A copy without history may be inside another repository, whose revision does not describe it.
    return read_output(["git", *arguments], root, {"GIT_CEILING_DIRECTORIES": str(root.resolve().parent)})
