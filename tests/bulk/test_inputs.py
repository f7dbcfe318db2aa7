"""What INPUT and OUTPUT can name, and the files that are refused."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import pytest

from koner.bulk.addresses import absolute_address, resolve
from koner.bulk.files import find_corpus_files
from koner.bulk.folder import Folder
from koner.errors import KonerError
from tests.bulk.corpus import read_corpus, texts_of

LINE = '{"text": "가"}\n'


def zip_archive(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "" if name.endswith("/") else LINE)


def tar_archive(path, mode):
    with tarfile.open(path, mode) as archive:
        member = tarfile.TarInfo("a.jsonl")
        member.size = len(LINE.encode())
        archive.addfile(member, io.BytesIO(LINE.encode()))


@pytest.mark.parametrize("name", ["in.jsonl.zip", "in.zip", "in.jsonl.tar", "in.tar.gz", "in.jsonl.7z", "in.jsonl.zst"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_an_archive_is_refused_by_its_extension(tmp_path, name, in_folder):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(LINE)
    (folder / name).write_bytes(b"")
    if in_folder and ".jsonl" not in name:
        return  # a file without the extension of a format is no part of a folder
    message = rf"{name} is an archive or compressed in a way that can't be read; unpack it$"
    with pytest.raises(KonerError, match=message):
        read_corpus(folder if in_folder else folder / name, tmp_path / "out")


@pytest.mark.parametrize("format_", ["jsonl", "text"])
def test_an_archive_is_refused_by_its_content(tmp_path, format_):
    zip_archive(tmp_path / "a.zip", "__MACOSX/._a.jsonl", "a/", "a/a.jsonl", "a/b.jsonl")
    zip_archive(tmp_path / "b.jsonl", "a.jsonl")
    tar_archive(tmp_path / "a.tar", "w")
    tar_archive(tmp_path / "b.jsonl.gz", "w:gz")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.zip").read_bytes()))
    (tmp_path / "d.jsonl").write_bytes(gzip.compress(LINE.encode()))
    kinds = {"a.zip": "zip", "b.jsonl": "zip", "a.tar": "tar", "b.jsonl.gz": "tar", "c.jsonl.gz": "zip"}
    for name, kind in kinds.items():
        with pytest.raises(KonerError, match=rf"{name} is a {kind} archive, not UTF-8 text; unpack it$"):
            read_corpus(tmp_path / name, tmp_path / "out", input_format=format_)
    with pytest.raises(KonerError, match=r"d\.jsonl is gzip data, not UTF-8 text; decompress it$"):
        read_corpus(tmp_path / "d.jsonl", tmp_path / "out", input_format=format_)


@pytest.mark.parametrize(
    "content", [b"\xea\xb0\x80\r\xeb\x82\x98\r", b"\xef\xbb\xbfa\rb", b'{"text": "a"}\r{"text": "b"}']
)
@pytest.mark.parametrize("format_", ["jsonl", "text"])
def test_a_file_whose_lines_end_with_cr_only_is_refused(tmp_path, content, format_):
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(KonerError, match=r"in ends its lines with CR only; convert them to LF or CR LF$"):
        read_corpus(tmp_path / "in", tmp_path / "out", input_format=format_)


def test_lines_with_a_bom_a_nul_cr_lf_and_100000_characters(tmp_path):
    text = "가" * 100_000
    (tmp_path / "in.txt").write_bytes(b"\xef\xbb\xbf" + f"a\0b\r\n{text}\r\n\ufeffc\rd\r\n".encode())
    _, blocks = read_corpus(tmp_path / "in.txt", tmp_path / "out", block_rows=2)
    assert texts_of(blocks) == [["a\0b", text], ["\ufeffc\rd"]]
    (tmp_path / "one.txt").write_bytes("가\r".encode())
    assert texts_of(read_corpus(tmp_path / "one.txt", tmp_path / "out-one")[1]) == [["가"]]


def test_a_named_pipe_is_refused(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(LINE)
    os.mkfifo(folder / "b.jsonl")
    for source in (folder, folder / "b.jsonl", folder / "*.jsonl"):
        with pytest.raises(KonerError, match=r"b\.jsonl is no regular file$"):
            find_corpus_files(str(source), None)


def test_links_are_followed_to_files_and_refused_to_folders(tmp_path):
    folder, cache = tmp_path / "in", tmp_path / "cache"
    folder.mkdir()
    cache.mkdir()
    (cache / "0a").write_text(LINE)
    (folder / "a.jsonl").symlink_to(cache / "0a")
    for i, source in enumerate((folder, folder / "*.jsonl", folder / "a.jsonl")):
        assert texts_of(read_corpus(source, tmp_path / f"out{i}")[1]) == [["가"]]
    (folder / "more").symlink_to(cache, target_is_directory=True)
    with pytest.raises(KonerError, match=r"more is a link to a folder"):
        find_corpus_files(str(folder), None)
    (folder / "more").unlink()
    (folder / "b.jsonl").symlink_to(cache / "none")
    with pytest.raises(KonerError, match=r"b\.jsonl can't be read: the file or folder does not exist$"):
        find_corpus_files(str(folder), None)


@pytest.mark.parametrize(
    "name", ["c[1]", "q?x", "a*b", "o::2", "x::file", "a#b", "50%", "a:b", "~", "{a,b}", "새 폴더"]
)
def test_a_path_that_exists_is_taken_literally(tmp_path, name):
    for other in (name, "c1", "qax", "ab", "o:", "o", "x"):
        (tmp_path / other).mkdir()
        (tmp_path / other / "in.txt").write_text(other)
    folder, expected = str(tmp_path / name), [[name]]
    for i, source in enumerate((folder, f"{folder}/in.txt", f"{folder}/*.txt", f"file://{folder}")):
        assert texts_of(read_corpus(source, tmp_path / f"out{i}")[1]) == expected
    output = Folder(absolute_address(folder))
    with output.open_to_write("sub/file") as file:
        file.write(b"1")
    assert (tmp_path / name / "sub/file").read_bytes() == b"1"
    assert output.names("sub") == {"file"}


def test_a_pattern_that_is_no_name_selects_files(tmp_path):
    for name in ("c1", "c2", "c3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in.txt").write_text(name)
    assert texts_of(read_corpus(f"{tmp_path}/c[12]/*.txt", tmp_path / "out")[1]) == [["c1", "c2"]]


def test_a_remote_path_is_taken_literally():
    outputs = [Folder(absolute_address(f"memory://koner/{name}")) for name in ("c[1]", "c1", "o::2")]
    for output in outputs:
        with output.open_to_write("file") as file:
            file.write(output.address.encode())
    for output in outputs:
        output.remove_temporary_files()
        with output.open_to_read("file") as file:
            assert file.read().decode() == output.address
    assert resolve("s3://bucket/a::b")[1] == "bucket/a::b"
    with pytest.raises(KonerError, match="Protocol not known: simplecache::s3"):
        absolute_address("simplecache::s3://bucket/a")


def test_a_path_that_is_not_utf8_is_refused(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/\xff.txt", "w") as file:
        file.write("가")
    with pytest.raises(KonerError, match=r"the path .*/\\udcff\.txt is not UTF-8; rename it, or set PYTHONUTF8=1$"):
        find_corpus_files(str(folder), None)
    with pytest.raises(KonerError, match=r"is not UTF-8"):
        absolute_address(os.fsdecode(b"\xff"))
    with pytest.raises(KonerError, match=r"must not be empty"):
        absolute_address("")


@pytest.mark.parametrize(("module", "extension"), [(gzip, "gz"), (bz2, "bz2"), (lzma, "xz")])
def test_every_stream_of_a_compressed_file_is_read_or_its_damage_is_reported(tmp_path, module, extension):
    path = tmp_path / f"in.jsonl.{extension}"
    streams = [module.compress(LINE.encode()), module.compress(LINE.encode() * 100_000), module.compress(b"")]
    content = b"".join([streams[0], bytes(4), streams[1], streams[2]]) if extension == "xz" else b"".join(streams)
    path.write_bytes(content)
    _, [batches] = read_corpus(path, tmp_path / "out")
    assert sum(len(batch.texts) for batch in batches) == 100_001
    for damaged in (streams[0] + b"x" + streams[1], streams[0] + streams[1][:-8], streams[0] + b"junk"):
        path.write_bytes(damaged)
        with pytest.raises(KonerError, match=rf"in\.jsonl\.{extension} can't be read: "):
            read_corpus(path, tmp_path / "new")
