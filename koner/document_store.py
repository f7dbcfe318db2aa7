"""Documents of tokens on disk: written in the order they come, read in any order, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from koner.packing import Document

_KINDS = {"input_ids": np.int32, "words": np.int32, "first_tags": np.int8, "last_tags": np.int8}
_ENDS = "ends.bin"


def write_documents(documents: Iterable[Document], folder: Path) -> None:
    """Writes documents to `folder`: a `.bin` file a column, and in `ends.bin` where each document ends (int64)."""
    files = {field: (folder / f"{field}.bin").open("wb") for field in _KINDS}
    end = 0
    try:
        with (folder / _ENDS).open("wb") as ends:
            for document in documents:
                for field, file in files.items():
                    file.write(getattr(document, field).astype(_KINDS[field]).tobytes())
                end += len(document.input_ids)
                ends.write(end.to_bytes(8, "little"))
    finally:
        for file in files.values():
            file.close()


class StoredDocuments:
    """The documents that `write_documents` wrote to a folder, by number."""

    def __init__(self, folder: Path) -> None:
        self.ends = _mapped(folder / _ENDS, "<i8")
        self.columns = {field: _mapped(folder / f"{field}.bin", kind) for field, kind in _KINDS.items()}

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> Document:
        start = self.ends[i - 1] if i else 0
        return Document(**{field: values[start : self.ends[i]] for field, values in self.columns.items()})


def _mapped(path: Path, kind: type | str) -> np.ndarray:
    # An empty file can't be mapped.
    return np.memmap(path, kind, "r").view(np.ndarray) if path.stat().st_size else np.empty(0, kind)
