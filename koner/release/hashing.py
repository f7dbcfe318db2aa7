"""DVC's hashes of outputs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import NoReturn

from koner.validation import check_regular

# The end of the hash of a folder, which is the MD5 of the list of its files.
LIST_SUFFIX = ".dir"
# DVC ignores these anywhere in an output.
_IGNORED_FOLDERS = {".git", ".hg"}
_IGNORED_FILES = {".git"}

_md5 = partial(hashlib.md5, usedforsecurity=False)


def folder_hash(folder: Path) -> str:
    """Return DVC's hash of an output, as `dvc.lock` holds it.

    Like DVC, this ignores symbolic links to folders, empty folders, and the files of Git and Mercurial. Unlike DVC, it
    does not read `.dvcignore`, and refuses what is not a regular file, such as a named pipe.

    Args:
        folder: A folder or a single file.

    Returns:
        `<md5>.dir` for a folder, the MD5 of the content for a file.

    Raises:
        KonerError: If something in the folder is neither a folder nor a regular file.
        OSError: If the folder does not exist or a file in it cannot be read.
    """
    if not folder.is_dir():
        return file_md5(folder)
    entries = [{"md5": file_md5(path), "relpath": path.relative_to(folder).as_posix()} for path in _files(folder)]
    entries.sort(key=itemgetter("relpath"))
    return f"{_md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()}{LIST_SUFFIX}"


def file_md5(path: Path) -> str:
    """Return the MD5 of a file, in hexadecimal digits.

    Raises:
        KonerError: If it is not a regular file.
        OSError: If it cannot be read.
    """
    check_regular(path, path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS]
        yield from (Path(parent, name) for name in names if name not in _IGNORED_FILES)


def _raise(error: OSError) -> NoReturn:
    raise error
