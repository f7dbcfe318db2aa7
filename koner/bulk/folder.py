"""The output folder of a run, at any address that fsspec supports, with atomic writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

from filelock import FileLock, Timeout
from fsspec import AbstractFileSystem

from koner.bulk.addresses import resolve, translate_errors
from koner.errors import KonerError

RUN_FOLDER = "_run"
MANIFEST = f"{RUN_FOLDER}/manifest.json"
BLOCKS, COLUMNS = f"{RUN_FOLDER}/plan.parquet", f"{RUN_FOLDER}/columns.parquet"
_DRAFTS, _REMOVED_DRAFTS = f"{RUN_FOLDER}/drafts", f"{RUN_FOLDER}/removed"
# Object stores have no folders, and makedirs would create a bucket with a mistyped name.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}


class Folder:
    """A folder with atomic writes: a file has its name only when it is complete.

    Attributes:
        address: The address of the folder, with its protocol.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        # The start of the names of temporary files, also of those that workers with a copy of this object write.
        self._run = uuid4().hex
        with translate_errors(address, "write"):
            self._fs, self._root = resolve(address)
        protocols = self._fs.protocol
        self._is_locked = False
        self._is_object_store = bool(_OBJECT_STORES & ({protocols} if isinstance(protocols, str) else set(protocols)))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of a local folder; do nothing on any other filesystem, or on one without locks.

        The operating system releases the lock when the process ends, even by SIGKILL. If no run has been planned in
        the folder at the end, the files and folders that were created in the attempt are deleted. Temporary files are
        deleted in any case.

        Raises:
            KonerError: If another run holds the lock, or the folder can't be created.
        """
        if not getattr(self._fs, "local_file", False):
            yield
            return
        run_folder = Path(self._root, RUN_FOLDER)
        new_folders = [path for path in (run_folder, *run_folder.parents) if not path.exists()]
        lock = FileLock(run_folder / "lock")
        with translate_errors(self.address, "write"):
            run_folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
                Path(self._root, _DRAFTS).mkdir(exist_ok=True)
                self._is_locked = True
            except Timeout:
                raise KonerError(
                    f"another run is writing into {self.address}; wait for its end, or give another folder"
                ) from None
            except (OSError, NotImplementedError):
                pass  # the temporary files of two runs are separate anyway
        try:
            yield
        finally:
            self.remove_temporary_files()
            if not Path(self._root, MANIFEST).exists():
                for name in (BLOCKS, COLUMNS, f"{RUN_FOLDER}/lock"):
                    Path(self._root, name).unlink(missing_ok=True)
                for path in new_folders:
                    with suppress(OSError):
                        path.rmdir()
            lock.release()
            self._is_locked = False

    def names(self, subfolder: str = "") -> set[str]:
        """Return the names in the folder or a subfolder; empty if it does not exist."""
        path = f"{self._root}/{subfolder}".rstrip("/")
        with translate_errors(self.address):
            self._fs.invalidate_cache()
            try:
                return {PurePosixPath(path).name for path in self._fs.ls(path, detail=False)} - {""}
            except FileNotFoundError:
                return set()

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        with translate_errors(self.address):
            return bool(self._fs.exists(f"{self._root}/{name}"))

    @contextmanager
    def open_to_read(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for reading."""
        with translate_errors(f"{self.address}/{name}"), self._fs.open(f"{self._root}/{name}", "rb") as file:
            yield file

    @contextmanager
    def open_to_write(self, name: str) -> Iterator[IO[bytes]]:
        """Open a temporary file for writing; on success it is renamed to `name`, on an error it is deleted.

        Object stores rename by a copy. In a locked folder this fails once `remove_temporary_files` has been called, so
        that a worker that outlives its run writes nothing.

        Raises:
            KonerError: If the file can't be written.
        """
        target, temporary = f"{self._root}/{name}", f"{self._root}/{_DRAFTS}/{self._run}-{uuid4().hex}"
        address = f"{self.address}/{name}"
        with translate_errors(address, "write"):
            if not self._is_object_store:
                if not self._is_locked:
                    self._fs.makedirs(temporary.rpartition("/")[0], exist_ok=True)
                self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            file = self._fs.open(temporary, "wb")
        try:
            yield file
            with translate_errors(address, "write"):
                file.close()
                _move(self._fs, temporary, target)
        except BaseException:
            with suppress(Exception):
                file.close()
            with suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def remove_temporary_files(self) -> None:
        """Delete the incomplete files of killed processes: of this run and, under a lock, of all runs before."""
        with translate_errors(self.address, "write"):
            if self._is_locked:
                # Renamed first: a worker that is still running could create a file while the folder is being deleted.
                drafts, removed = Path(self._root, _DRAFTS), Path(self._root, _REMOVED_DRAFTS)
                shutil.rmtree(removed, ignore_errors=True)
                if drafts.exists():
                    drafts.rename(removed)
                    shutil.rmtree(removed, ignore_errors=True)
            else:
                for name in self.names(_DRAFTS):
                    if name.startswith(self._run):
                        self._fs.rm_file(f"{self._root}/{_DRAFTS}/{name}")


def _move(fs: AbstractFileSystem, source: str, target: str) -> None:
    """Rename a file, or copy and delete it in an object store."""
    if type(fs).mv is AbstractFileSystem.mv:
        # The same as `mv`, which would read `*`, `?` and `[` in the paths as patterns.
        fs.cp_file(source, target)
        fs.rm_file(source)
    else:
        fs.mv(source, target)
