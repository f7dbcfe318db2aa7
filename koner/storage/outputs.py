"""Outputs of a stage: metrics, and files and folders that are written atomically."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DECIMALS = 6


def _round_floats(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, dict):
        return {key: _round_floats(v) for key, v in value.items()}
    return value


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write metrics as JSON, with floats rounded to six decimals."""
    write_text(path, json.dumps(_round_floats(metrics), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, with the line ends that it has, as `atomic_file` does."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file atomically; its folder is created.

    Yields:
        The path of a temporary file with the same extension, which replaces `path` at the end of the block, or is
        removed if an error is raised.
    """
    draft = path.with_name(f"{path.stem}.tmp{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_directory(folder: Path) -> Iterator[Path]:
    """Write a folder atomically.

    Yields:
        A temporary folder, which replaces `folder` at the end of the block, or is removed if an error is raised.
    """
    draft = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
