import gzip
import os
import tarfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koner.errors import KonerError
from koner.pretraining.raw_text import read_texts

LINES = " 서울에 갔다 \n\n\t\n부산에 왔다\r\n끝"
TEXTS = ["서울에 갔다", "부산에 왔다", "끝"]


def write(path, content=LINES):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def write_parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_text_file_has_one_text_per_line_and_blank_lines_are_skipped(tmp_path, name):
    assert list(read_texts(str(write(tmp_path / name)))) == TEXTS


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_the_texts_of_a_parquet_file_are_a_column(tmp_path, kind):
    texts = pa.array([" 하나 ", None, "둘\n셋", " "], kind)
    path = write_parquet(tmp_path / "a.parquet", other=[1, 2, 3, 4], document=texts)
    assert list(read_texts(str(path), "document")) == ["하나", "둘\n셋"]


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path):
    write(tmp_path / "b.txt", "둘")
    write(tmp_path / "a" / "z.txt.gz", "하나")
    write_parquet(tmp_path / "c.parquet", text=["셋"])
    write(tmp_path / "notes.md", "아니다")
    assert list(read_texts(str(tmp_path))) == ["하나", "둘", "셋"]


def test_a_file_is_streamed(tmp_path):
    path = write(tmp_path / "a.txt")
    with path.open("ab") as file:
        file.write(b"\n\xff\n")
    texts = read_texts(str(path))
    assert [next(texts) for _ in TEXTS] == TEXTS
    with pytest.raises(KonerError, match=r"a\.txt:6: the line is not UTF-8$"):
        next(texts)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    assert list(read_texts(str(write(tmp_path / "a.txt", "\ufeff" + LINES)))) == TEXTS


def write_tar(path):
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return path


def make_fifo(path):
    os.mkfifo(path)
    return path.parent


def write_parquet_with_one_name(path):
    pq.write_table(pa.table([["하나"], ["둘"]], ["text", "text"]), path)
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-12])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda f: f / "none.txt", "texts: there is no file or folder .*none.txt", id="missing"),
        pytest.param(
            lambda f: write(f / "a.csv"), r"texts: .*a\.csv is not a \.txt, \.txt\.gz, \.parquet file", id="suffix"
        ),
        pytest.param(lambda f: write(f / "a.csv").parent, r"texts: .* contains no \.txt, ", id="empty folder"),
        pytest.param(
            lambda f: truncate(write(f / "a.txt.gz")), r"a\.txt\.gz: can't be read after line \d: ", id="gzip"
        ),
        pytest.param(lambda f: write(f / "a.parquet"), r"a\.parquet can't be read as Parquet", id="not Parquet"),
        pytest.param(lambda f: write_tar(f / "a.txt.gz"), r"a\.txt\.gz is a tar archive, not UTF-8 text", id="archive"),
        pytest.param(lambda f: make_fifo(f / "a.txt"), r"^texts: .*a\.txt is no regular file$", id="pipe"),
        pytest.param(
            lambda f: write_parquet_with_one_name(f / "a.parquet"),
            r"^column: .*a\.parquet has 2 columns 'text'; rename them$",
            id="repeated column",
        ),
        pytest.param(
            lambda f: write_parquet(f / "a.parquet", body=["하나"]),
            "column: .* has no column 'text'; its columns are body",
            id="column",
        ),
        pytest.param(
            lambda f: write_parquet(f / "a.parquet", text=[1]),
            "column: .* the column 'text' does not contain text",
            id="numbers",
        ),
    ],
)
def test_a_source_that_can_not_be_read_is_reported_in_one_line(tmp_path, make, message):
    with pytest.raises(KonerError, match=message) as error:
        list(read_texts(str(make(tmp_path))))
    assert "\n" not in str(error.value)


def test_a_hub_dataset_is_streamed(monkeypatch):
    arguments = {}

    def load_dataset(name, **options):
        arguments.update(options, name=name)
        return iter([{"text": " 하나 "}, {"text": None}, {"text": "둘"}])

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_texts("someone/corpus", revision="abc")) == ["하나", "둘"]
    assert arguments == {"name": "someone/corpus", "split": "train", "revision": "abc", "streaming": True}
    with pytest.raises(KonerError, match="column: someone/corpus has no text column 'body'; its columns are text"):
        list(read_texts("someone/corpus", "body"))


def test_a_hub_that_can_not_be_reached_is_reported(monkeypatch):
    def no_hub(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", no_hub)
    with pytest.raises(KonerError, match=r"^texts: the hub can't be reached for someone/corpus \(no route\)"):
        list(read_texts("someone/corpus"))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_end_are_no_text(tmp_path, line_end):
    path = tmp_path / "a.txt"
    path.write_bytes(("\ufeff" + line_end.join(["가 나", "", "다"])).encode())
    assert list(read_texts(str(path))) == ["가 나", "다"]
