"""Files of metrics that reserve their space on the disk.

prometheus_client maps the files that gunicorn's workers share into memory. Its own files are sparse: a write to a part
that the disk has no space for ends the process with SIGBUS.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from prometheus_client import mmap_dict, values

_logger = logging.getLogger("gunicorn.error")

# A file begins with the number of its used bytes. In an empty file, these are the number itself and its padding.
_EMPTY_HEAD = mmap_dict._pack_integer_func(8)
# A value takes less than this, in addition to its key.
_VALUE_BYTES = 32


class ReservedFile(mmap_dict.MmapedDict):
    """A file of metrics in space that is reserved before it is used.

    If there is no space, the metrics stay in the memory of this process, and nobody sees them.
    """

    _warned_process = 0

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            if not Path(filename).exists():
                _append_zeros(Path(filename), mmap_dict._INITIAL_MMAP_SIZE)
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._fname = filename
            self._positions: dict[str, int] = {}
            self._used = 8
            self._keep_in_memory(_EMPTY_HEAD.ljust(mmap_dict._INITIAL_MMAP_SIZE, b"\0"), error)

    def _init_value(self, key: str) -> None:
        is_full = self._used + len(key.encode()) + _VALUE_BYTES > self._capacity
        if is_full and self._f:
            try:
                # `MmapedDict` is about to double the file.
                _append_zeros(Path(self._fname), self._capacity)
            except OSError as error:
                self._keep_in_memory(self._m[:], error)
        if is_full and not self._f:
            self._use_memory(self._m[:].ljust(2 * self._capacity, b"\0"))
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _use_memory(self, content: bytes) -> None:
        self._f = None  # type: ignore[assignment]
        self._m = bytearray(content)  # type: ignore[assignment]
        self._capacity = len(content)

    def _keep_in_memory(self, content: bytes, error: OSError) -> None:
        self._use_memory(content)
        if ReservedFile._warned_process != os.getpid():
            ReservedFile._warned_process = os.getpid()
            _logger.error("koner: this worker stops reporting metrics: %s", error)


def _append_zeros(path: Path, count: int) -> None:
    """Append zeros to a file, which need not exist; if there is no space for all of them, leave the file as it was."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as file:
            file.write(bytes(count))
    except OSError:
        if size:
            os.truncate(path, size)
        else:
            path.unlink(missing_ok=True)
        raise


def install() -> None:
    """Let prometheus_client use these files for the metrics that are created from now on."""
    values.MmapedDict = ReservedFile  # type: ignore[attr-defined]
