"""Errors that a user can act on."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from koner.console import escape_controls
from koner.extras import describe_missing

# The exit status that a shell reports for a command ended by Ctrl-C: 128 plus the number of the signal.
INTERRUPTED = 130
_LONGEST_LINE = 200  # characters
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
# Errors of this machine's files, which no line of the program can cause.
_MACHINE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# PyTorch raises a RuntimeError if a file that it writes is cut off.
_TORCH_WRITER = "inline_container.cc"


class KonerError(Exception):
    """A fault of input or set-up, in one sentence that names the fault and what to do."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exit with status 1 and one sentence on standard error after a `KonerError`, a missing extra or a full disk."""
    try:
        yield
    except KonerError as error:
        # A message that lists faults has a line for each.
        lines = [escape_controls(line) for line in str(error).split("\n")]
        sys.exit("koner: " + "\n".join(lines))
    except ModuleNotFoundError as error:
        if (sentence := describe_missing(error)) is None:
            raise
        sys.exit(f"koner: {sentence}")
    except Exception as error:
        if (sentence := _describe_machine_fault(error)) is None:
            raise
        sys.exit(f"koner: {sentence}")


def _describe_machine_fault(error: BaseException | None) -> str | None:
    """Return a sentence about a full disk or a file without rights that caused an error, or None if none did."""
    while error is not None:
        name = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        number = error.errno if isinstance(error, OSError) else None
        # Libraries raise errors of their own with the words of the system, PyTorch without them.
        if number in _FULL_DISK or os.strerror(errno.ENOSPC) in str(error) or _TORCH_WRITER in str(error):
            return f"{name}the disk is full; free some space, and run the command again"
        if number in _MACHINE:
            return f"{name}{os.strerror(number)}"
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters, or its class if it has none."""
    line = str(error).strip().partition("\n")[0]
    return line[:_LONGEST_LINE] or type(error).__name__
