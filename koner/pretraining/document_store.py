"""Documents of tokens on disk: written in order, read in any order through memory maps."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from koner.pretraining.packing import Document

_DTYPES = {
    "input_ids": np.int32,
    "words": np.int32,
    "first_tags": np.int8,
    "last_tags": np.int8,
    "weak_labels": np.int8,
}
_ENDS = "ends.bin"


def write_documents(documents: Iterable[Document], folder: Path) -> None:
    """Write documents to a folder: a `.bin` file for each column, and the end of each document in `ends.bin`."""
    end = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in _DTYPES}
        ends = stack.enter_context((folder / _ENDS).open("wb"))
        for document in documents:
            for name, file in files.items():
                file.write(getattr(document, name).astype(_DTYPES[name]).tobytes())
            end += len(document.input_ids)
            ends.write(end.to_bytes(8, "little"))


class StoredDocuments:
    """The documents that `write_documents` wrote to a folder, by index."""

    def __init__(self, folder: Path) -> None:
        self.ends = _map_file(folder / _ENDS, "<i8")
        self.columns = {name: _map_file(folder / f"{name}.bin", dtype) for name, dtype in _DTYPES.items()}

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> Document:
        start = self.ends[i - 1] if i else 0
        return Document(**{name: values[start : self.ends[i]] for name, values in self.columns.items()})


def _map_file(path: Path, dtype: type | str) -> np.ndarray:
    # An empty file can't be mapped.
    return np.memmap(path, dtype, "r").view(np.ndarray) if path.stat().st_size else np.empty(0, dtype)
