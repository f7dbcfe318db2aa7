"""Names of a corpus' parts: as published, and as the pipeline splits them."""

from __future__ import annotations

from pathlib import Path

TRAIN, DEVELOPMENT, VALIDATION, TEST = "train", "development", "validation", "test"
# A source has a training part, and may have the others.
PUBLISHED_PARTS = (TRAIN, VALIDATION, TEST)
SPLIT_PARTS = (TRAIN, DEVELOPMENT, TEST)


def stored_parts(folder: Path) -> tuple[str, ...]:
    """Return the published parts of which a folder has a Parquet file."""
    return tuple(part for part in PUBLISHED_PARTS if (folder / f"{part}.parquet").is_file())
