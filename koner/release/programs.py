"""Other programs, whose failure is no error here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def read_output(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float | None = None
) -> str | None:
    """Return what a program prints, without whitespace around it, or None if it cannot be run or fails.

    Args:
        command: The program with its arguments.
        folder: The working folder.
        environment: Environment variables to add.
        timeout: The time after which the program is stopped and has failed, in seconds.
    """
    try:
        completed = subprocess.run(  # noqa: S603 (the callers write the commands)
            command,
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()
