import codecs
import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.errors import KonerError
from koner.text.lines import line_chunks
from koner.text.signatures import SIGNATURE_BYTES, check_signature


class SlowStream:
    """A stream that returns its blocks one by one and counts the reads."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.reads = 0

    def read1(self, size):
        self.reads += 1
        return self.blocks[self.reads - 1]


def test_lines_are_yielded_as_soon_as_they_arrive():
    stream = SlowStream(["가\n나".encode(), b"\n", b"\xeb\x8b", b"\xa4\n", b""])
    chunks = line_chunks(stream, "slow")
    assert (next(chunks), stream.reads) == (["가"], 1)
    assert (next(chunks), stream.reads) == (["나"], 2)
    assert list(chunks) == [["다"]]


def test_a_large_file_is_read_chunk_by_chunk():
    stream = io.BytesIO("가나다라마바사\n".encode() * 100_000)
    next(line_chunks(stream, "large"))
    assert stream.tell() < 100_000


@pytest.mark.parametrize("blocks", [[b"\xff", b"\xfea\0\n", b"\0"], [b"\xff\xfea\0"]])
def test_another_format_is_named(blocks):
    with pytest.raises(KonerError, match=r"^wide is UTF-16, not UTF-8 text; convert it to UTF-8$"):
        list(line_chunks(SlowStream([*blocks, b""]), "wide"))


def test_lines_that_end_with_cr_only_are_refused():
    with pytest.raises(KonerError, match=r"^old ends its lines with CR only; convert them to LF or CR LF$"):
        list(line_chunks(SlowStream([b"\xef\xbb\xbfa\r", b"b\r", b""]), "old"))
    assert list(line_chunks(SlowStream([b"a\r", b""]), "one")) == [["a"]]
    assert list(line_chunks(SlowStream([b"a\rb\r\nc\rd", b""]), "mixed")) == [["a\rb"], ["c\rd"]]


def test_a_stream_that_fails_is_reported():
    with open("/proc/self/mem", "rb") as stream, pytest.raises(KonerError, match=r"^memory can't be read: "):
        list(line_chunks(stream, "memory"))


def is_refused(content):
    try:
        check_signature(content[:SIGNATURE_BYTES], "")
    except KonerError:
        return True
    return b"\n" not in content and b"\r" in content[:-1]


@given(st.lists(st.binary(max_size=5).filter(bool)).filter(lambda blocks: not is_refused(b"".join(blocks))))
def test_lines_do_not_depend_on_the_blocks_of_a_stream(blocks):
    lines = b"".join(blocks).removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    valid_lines = list(itertools.takewhile(is_utf8, lines))
    texts, message = [], ""
    try:
        for chunk in line_chunks(SlowStream([*blocks, b""]), "cut"):
            texts += chunk
    except KonerError as error:
        message = str(error)
    assert [text.encode() for text in texts] == [line.removesuffix(b"\r") for line in valid_lines]
    assert message.partition(": byte ")[0] == ("" if valid_lines == lines else f"cut:{len(valid_lines) + 1}")


def is_utf8(line):
    try:
        return line.decode() is not None
    except UnicodeDecodeError:
        return False
