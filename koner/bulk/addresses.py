"""Addresses of files and folders: a local path, or a protocol that fsspec supports and a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from fsspec import AbstractFileSystem, filesystem, get_filesystem_class
from fsspec.implementations.local import LocalFileSystem

from koner.errors import KonerError, first_line


@contextmanager
def translate_errors(address: str, operation: Literal["read", "write"] = "read") -> Iterator[None]:
    """Turn any error of a filesystem into a `KonerError` that names the address."""
    try:
        yield
    except KonerError:
        raise
    # Filesystems raise errors of their own libraries, such as botocore, aiohttp and pyarrow.
    except Exception as error:
        reason = first_line(error)
        if isinstance(error, FileNotFoundError):
            reason = f"the {'file or folder' if operation == 'read' else 'folder or bucket'} does not exist"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise KonerError(f"{address} can't be {'read' if operation == 'read' else 'written'}: {reason}") from None


def resolve(address: str) -> tuple[AbstractFileSystem, str]:
    """Return the filesystem of an address, and the path in it.

    The path is taken literally. `fsspec.core.url_to_fs` would read `::` in it as a chain of filesystems.
    """
    protocol, separator, path = address.partition("://")
    if not separator or protocol in LocalFileSystem.protocol:
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(path if separator else address))
    class_ = get_filesystem_class(protocol)
    return filesystem(protocol, **class_._get_kwargs_from_urls(address)), str(class_._strip_protocol(address))


def absolute_address(address: str) -> str:
    """Return an address that is valid in every process: with its protocol, and a local path from the root.

    Raises:
        KonerError: If the address is empty or not UTF-8, or its protocol is not known.
    """
    if not address:
        raise KonerError("INPUT and OUTPUT must not be empty")
    check_utf8(address)
    with translate_errors(address):
        fs, path = resolve(address)
        return str(fs.unstrip_protocol(path))


def check_utf8(path: str) -> None:
    """Check that a path is UTF-8, as the plan and the table of rejected rows store it.

    Raises:
        KonerError: If it is not.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        # Python decodes paths by the locale, and bytes that are not valid in it become lone surrogates.
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        raise KonerError(f"the path {shown} is not UTF-8; rename it, or set PYTHONUTF8=1") from None
