"""Signatures of files that hold no lines of UTF-8 text, although parts of their bytes could be read as such."""

from __future__ import annotations

import re
import tarfile

from koner.errors import KonerError

# The number of bytes that `check_signature` needs from the start of a file: the header of a tar archive.
SIGNATURE_BYTES = tarfile.BLOCKSIZE
_UNPACK = "unpack it"
_DECOMPRESS = "decompress it"
_CONVERT = "convert it to UTF-8"
_SIGNATURES = (
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a zip archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (rb"\x1f\x8b", "gzip data", _DECOMPRESS),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "bzip2 data", _DECOMPRESS),
    (rb"\xfd7zXZ\x00", "xz data", _DECOMPRESS),
    (rb"\x28\xb5\x2f\xfd", "zstd data", _DECOMPRESS),
    (rb"\x04\x22\x4d\x18", "lz4 data", _DECOMPRESS),
    (rb"PAR1[\x00-\x1f]", "a Parquet file", "read it as one"),
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "UTF-32", _CONVERT),
    (rb"\xff\xfe|\xfe\xff", "UTF-16", _CONVERT),
)


def check_signature(head: bytes, name: str) -> None:
    """Check that a file is no archive, no compressed data and no other encoding of text.

    Args:
        head: The first `SIGNATURE_BYTES` bytes of the file, after decompression; fewer if the file is shorter.
        name: The name of the file for the message.

    Raises:
        KonerError: If the file is one of these; the message says what to do.
    """
    for pattern, kind, advice in _SIGNATURES:
        if re.match(pattern, head):
            raise KonerError(f"{name} is {kind}, not UTF-8 text; {advice}")
    if _is_tar(head[:SIGNATURE_BYTES]):
        raise KonerError(f"{name} is a tar archive, not UTF-8 text; {_UNPACK}")


def check_line_ends(line: bytes, name: str) -> None:
    """Check the only line of a file that has no LF.

    Raises:
        KonerError: If the line has a CR before its end, so that CR may be meant to end lines.
    """
    if b"\r" in line[:-1]:
        raise cr_error(name)


def cr_error(name: str) -> KonerError:
    """Return the error for a file with CR but without LF."""
    return KonerError(f"{name} ends its lines with CR only; convert them to LF or CR LF")


def _is_tar(head: bytes) -> bool:
    try:
        # The checksum of the header decides, because old archives have no signature.
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
