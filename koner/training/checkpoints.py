"""Checkpoints of interrupted training runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel


def fingerprint(params: BaseModel, inputs: Sequence[Path]) -> str:
    """Return a digest of the parameters and input files of a training run, which names its checkpoints.

    Args:
        params: The parameters of the run.
        inputs: Files, and folders of files, that the run reads.
    """
    digest = hashlib.sha256(params.model_dump_json().encode())
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def last_checkpoint(folder: Path) -> Path | None:
    """Return the latest complete checkpoint in `folder`, or None; remove checkpoints that are incomplete."""
    checkpoints: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        # The Trainer writes this file last. Its own `get_last_checkpoint` would also return a truncated checkpoint.
        state = path / "trainer_state.json"
        with contextlib.suppress(OSError, ValueError):
            checkpoints[int(json.loads(state.read_text())["global_step"])] = path
            continue
        shutil.rmtree(path, ignore_errors=True)
    return checkpoints[max(checkpoints)] if checkpoints else None


def remove_other_runs(checkpoints: Path, run_id: str) -> None:
    """Remove every folder in `checkpoints` except that of the run `run_id`."""
    if checkpoints.is_dir():
        for folder in checkpoints.iterdir():
            if folder.name != run_id:
                shutil.rmtree(folder)
