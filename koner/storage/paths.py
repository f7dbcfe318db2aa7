"""Paths that parameters name, and folders that can be written."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile


def local_path(name: str) -> Path:
    """Return the path that a parameter names, with `~` expanded; `~` and an unknown user stay as they are.

    Ask `os.path.isdir` and its kind about the path: `Path.is_dir` raises an error if the name is too long for the
    file system.
    """
    # Path.expanduser raises an error for an unknown user.
    return Path(os.path.expanduser(name))


def why_not_writable(folder: str | Path) -> str | None:
    """Create a folder if it does not exist; return why no file can be written in it, or None if one can."""
    try:
        os.makedirs(folder, exist_ok=True)
        # A test by writing: rights do not show whether the file system is read-only or full.
        with TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
