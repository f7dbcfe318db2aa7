"""The objects in which DVC's cache and remotes store a folder: a list of its files, and the files, each by its MD5.

They are read without DVC's own file system, which keeps what it has once read of a list, also of a damaged one, and
takes the content of an object for granted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from koner.errors import KonerError
from koner.release.hashing import LIST_SUFFIX, file_md5, folder_hash
from koner.release.programs import read_output
from koner.validation import read_file

_LARGEST_LIST = 16 * 2**20  # bytes, some 100,000 files
_DVC_SECONDS = 60


class _Entry(BaseModel):
    """A file of a folder."""

    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    relpath: str


_ENTRIES = TypeAdapter(list[_Entry])


def read_list(path: Path) -> dict[str, str]:
    """Return the MD5 of each file of a folder, by its path in the folder, from the list that DVC stores.

    Raises:
        KonerError: If the file is not such a list, or if a path leaves the folder.
        OSError: If the file cannot be read.
    """
    try:
        entries = _ENTRIES.validate_json(read_file(path, _LARGEST_LIST))
    except ValidationError:
        raise KonerError("it is not a list of files as DVC writes it") from None
    files = {entry.relpath: entry.md5 for entry in entries}
    outside = next((name for name in files if not _is_inside(name)), None)
    if outside is not None:
        raise KonerError(f"it names the file {outside[:80]!r}, which is not in the folder")
    return files


def _is_inside(name: str) -> bool:
    return "\0" not in name and not {"", ".", ".."} & set(name.split("/"))


def fetch_folder(stores: Sequence[Any], hash_: str, folder: Path, name: str) -> None:
    """Fetch a folder from the first of several stores that has it; each object is verified by its MD5.

    Args:
        stores: DVC's databases of objects: the cache, then the remote if there is one.
        hash_: The hash of the folder, as `dvc.lock` holds it, or of a single file.
        folder: The folder, or file, to write; it must not exist.
        name: The name of the folder, for error messages.

    Raises:
        KonerError: If no store has an object, or only a damaged one; the message says how to mend it.
    """
    if not hash_.endswith(LIST_SUFFIX):
        _fetch(stores, hash_, folder, name, hash_)
        return
    draft = folder.with_name(f"{folder.name}{LIST_SUFFIX}")
    _fetch(stores, hash_, draft, f"the list of files of {name}", hash_)
    try:
        files = read_list(draft)
    except KonerError as error:
        raise KonerError(
            f"the list of files of {name} is not valid: {error}; run `dvc repro` to make it again"
        ) from None
    draft.unlink()
    folder.mkdir()
    for path, md5 in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        _fetch(stores, md5, folder / path, f"{name}/{path}", hash_)
    # For instance, a path is listed twice.
    if folder_hash(folder) != hash_:
        raise KonerError(f"the list of files of {name} is not one that DVC writes; run `dvc repro` to make it again")


def _fetch(stores: Sequence[Any], md5: str, target: Path, name: str, list_hash: str) -> None:
    """Fetch one object of the folder that has the hash `list_hash`."""
    damaged = []
    for store in stores:
        try:
            store.fs.get_file(store.oid_to_path(md5), str(target))
        except FileNotFoundError:
            continue
        if file_md5(target) == md5.removesuffix(LIST_SUFFIX):
            return
        damaged.append(store)
        target.unlink()
    if not damaged:
        hint = f", after deleting {_address(stores[-1], list_hash)}" if len(stores) > 1 and md5 != list_hash else ""
        raise KonerError(f"neither DVC's cache nor a remote has {name}; run `dvc push` in the clone that made it{hint}")
    # `dvc push` does not look for the other objects of a folder if the remote has its list.
    addresses = {
        _address(store, oid) for store in damaged for oid in ((md5,) if store is stores[0] else (md5, list_hash))
    }
    raise KonerError(
        f"{name} is damaged in DVC's cache or remote; delete {' and '.join(sorted(addresses))}, then run `dvc push` in "
        "the clone that made it, or `dvc repro` where it is checked out"
    )


def _address(store: Any, oid: str) -> str:
    return str(store.fs.unstrip_protocol(store.oid_to_path(oid)))


def find_damaged_object(root: Path, hash_: str) -> Path | None:
    """Return an object of a folder in DVC's cache whose content is not that of its name, if there is one.

    DVC itself does not look: it takes a write-protected object for right.

    Args:
        root: A folder of the repository.
        hash_: The hash of the folder, as `dvc.lock` holds it.
    """
    cache = _cache_folder(root)
    if cache is None:
        return None
    hashes = [hash_]
    if hash_.endswith(LIST_SUFFIX):
        with suppress(KonerError, OSError):
            hashes += read_list(_object_path(cache, hash_)).values()
    return next((path for oid in hashes if _is_damaged(path := _object_path(cache, oid), oid)), None)


def _is_damaged(path: Path, oid: str) -> bool:
    try:
        return file_md5(path) != oid.removesuffix(LIST_SUFFIX)
    except (KonerError, OSError):
        # The cache does not have the object.
        return False


def _cache_folder(root: Path) -> Path | None:
    """Return the folder of DVC's cache, or None outside of a repository of DVC."""
    # In a process of its own: DVC takes a second to import, and starts threads.
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    folder = read_output(command, root, {"DVC_NO_ANALYTICS": "1"}, _DVC_SECONDS)
    return None if folder is None else root / folder


def _object_path(cache: Path, oid: str) -> Path:
    return Path(os.path.relpath(cache / "files/md5" / oid[:2] / oid[2:]))
