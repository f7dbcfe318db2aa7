"""The folder that a stage works in: one stage at a time, which ends if the process that started it is killed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from koner.errors import KonerError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

# The process id of the launcher, in the environment of the processes that train together.
LAUNCHER_PID = "KONER_LAUNCHER"
_POLL_SECONDS = 0.5


@contextmanager
def lock_workspace(*, shared: bool = False) -> Iterator[None]:
    """Hold a lock on the current folder, in which two stages would overwrite each other's files.

    The lock is on the folder itself, so it needs no file and no right to write. The operating system releases it when
    the process ends for any reason. It holds between the processes of one machine. Processes that a launcher started
    are covered by the lock of the launcher, or, if it is not ours, by that of the first one.

    Args:
        shared: Whether others that also share the lock may run at the same time.

    Raises:
        KonerError: If another process holds the lock.
    """
    if fcntl is None or LAUNCHER_PID in os.environ or os.environ.get("LOCAL_RANK", "0") != "0":
        yield
        return
    descriptor = os.open(".", os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KonerError(
                f"another stage or sweep runs in this folder{_describe_holder(descriptor)}; wait until it has ended, "
                "or end it, and run the command again"
            ) from None
        except OSError:
            # The file system has no locks.
            pass
        yield
    finally:
        os.close(descriptor)


def exit_with_parent(parent: int) -> None:
    """End this process as soon as `parent` is no longer the process above it.

    A process that is killed by SIGKILL can't stop those that it started, which would go on for hours.
    """
    _exit_if_changed(os.getppid, parent)


def exit_with_dvc() -> None:
    """End this process, a stage, as soon as the DVC that runs it is no longer there.

    DVC starts a stage by the user's shell. Some shells replace themselves by the stage's command; others, such as
    Debian's `sh`, stay between the two and would wait for the stage if DVC were killed.
    """
    import psutil

    shell = psutil.Process().parent()
    with contextlib.suppress(psutil.Error):
        if shell is not None and "-c" in shell.cmdline()[1:-1]:
            _exit_if_changed(shell.ppid, shell.ppid())
    exit_with_parent(os.getppid())


def _exit_if_changed(parent_of: Callable[[], int], parent: int) -> None:
    threading.Thread(target=_exit_after, args=(parent_of, parent), daemon=True).start()


def _exit_after(parent_of: Callable[[], int], parent: int) -> None:
    # An error says that the process whose parent is asked for has ended.
    with contextlib.suppress(Exception):
        while parent_of() == parent:
            time.sleep(_POLL_SECONDS)
    with contextlib.suppress(OSError):
        # Not by sys.stderr, whose lock the main thread may hold.
        os.write(2, b"koner: the process that started this one has ended, so this one ends, too\n")
    os._exit(1)


def _describe_holder(descriptor: int) -> str:
    """Return the process that holds a lock on a file and its command, as far as Linux tells."""
    with contextlib.suppress(OSError, ValueError):
        inode = os.fstat(descriptor).st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, file, *_ = line.split()
            if kind == "FLOCK" and file.endswith(f":{inode}"):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return f" (process {pid}, `{command.strip()}`)"
    return ""
