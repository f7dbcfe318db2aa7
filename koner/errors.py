"""Errors that a user can act on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class KonerError(Exception):
    """A fault of input or set-up, told in one sentence that names what is at fault and what to do."""


@contextmanager
def told_plainly() -> Iterator[None]:
    """Ends the program with the sentence of a `KonerError` on standard error and exit status 1."""
    try:
        yield
    except KonerError as error:
        sys.exit(f"koner: {error}")
