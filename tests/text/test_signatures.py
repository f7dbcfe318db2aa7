import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.errors import KonerError
from koner.text.signatures import SIGNATURE_BYTES, check_signature

TEXT = "홍길동은 서울에 갔다.\n"


def zip_of(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "" if name.endswith("/") else TEXT)
    return file.getvalue()


def tar_of(format_):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = len(TEXT.encode())
        archive.addfile(member, io.BytesIO(TEXT.encode()))
    return file.getvalue()


def old_tar():
    """An archive as before POSIX, without the signature `ustar`."""
    header = bytearray(tar_of(tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [TEXT]}), file)
    return file.getvalue()


FILES = {
    "a zip archive": [zip_of("a.txt"), zip_of("a/", "a/b.txt"), zip_of("__MACOSX/._a", "a.txt"), zip_of()],
    "a tar archive": [tar_of(tarfile.USTAR_FORMAT), tar_of(tarfile.GNU_FORMAT), tar_of(tarfile.PAX_FORMAT), old_tar()],
    "a 7z archive": [b"7z\xbc\xaf\x27\x1c\x00\x04"],
    "a RAR archive": [b"Rar!\x1a\x07\x01\x00"],
    "gzip data": [gzip.compress(TEXT.encode(), mtime=0)],
    "bzip2 data": [bz2.compress(TEXT.encode()), bz2.compress(b"")],
    "xz data": [lzma.compress(TEXT.encode())],
    "zstd data": [bytes(pa.compress(TEXT.encode(), "zstd"))],
    "a Parquet file": [parquet()],
    "UTF-16": [TEXT.encode("utf-16"), b"\xfe\xff" + TEXT.encode("utf-16-be")],
    "UTF-32": [TEXT.encode("utf-32"), b"\x00\x00\xfe\xff" + TEXT.encode("utf-32-be")],
}


@pytest.mark.parametrize(("kind", "content"), [(kind, content) for kind, files in FILES.items() for content in files])
def test_what_is_no_text_is_named(kind, content):
    with pytest.raises(KonerError, match=f"^x is {kind}, not UTF-8 text; "):
        check_signature(content[:SIGNATURE_BYTES], "x")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\r\t")))
def test_text_is_taken(text):
    check_signature(text.encode()[:SIGNATURE_BYTES], "x")
    check_signature(text.encode("utf-8-sig")[:SIGNATURE_BYTES], "x")
