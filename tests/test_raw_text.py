import gzip

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koner.errors import KonerError
from koner.raw_text import read_texts

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
def test_a_file_gives_a_text_a_line_without_blank_ones(tmp_path, name):
    assert list(read_texts(str(write(tmp_path / name)))) == TEXTS


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_parquet_file_gives_its_column(tmp_path, kind):
    texts = pa.array([" 하나 ", None, "둘\n셋", " "], kind)
    path = write_parquet(tmp_path / "a.parquet", other=[1, 2, 3, 4], document=texts)
    assert list(read_texts(str(path), "document")) == ["하나", "둘\n셋"]


def test_a_folder_gives_its_files_in_the_order_of_their_names(tmp_path):
    write(tmp_path / "b.txt", "둘")
    write(tmp_path / "a" / "z.txt.gz", "하나")
    write_parquet(tmp_path / "c.parquet", text=["셋"])
    write(tmp_path / "notes.md", "아니다")
    assert list(read_texts(str(tmp_path))) == ["하나", "둘", "셋"]


def test_a_file_is_read_no_further_than_asked_for(tmp_path):
    path = write(tmp_path / "a.txt")
    with path.open("ab") as file:
        file.write(b"\n\xff\n")
    texts = read_texts(str(path))
    assert [next(texts) for _ in TEXTS] == TEXTS
    with pytest.raises(KonerError, match=r"a\.txt:6: not UTF-8$"):
        next(texts)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-12])
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda f: f / "none.txt", "texts: there is no file or folder .*none.txt", id="missing"),
        pytest.param(
            lambda f: write(f / "a.csv"), r"texts: .*a\.csv is none of \.txt, \.txt\.gz, \.parquet", id="kind"
        ),
        pytest.param(lambda f: write(f / "a.csv").parent, r"texts: .* holds no \.txt, ", id="empty folder"),
        pytest.param(
            lambda f: cut_short(write(f / "a.txt.gz")), r"a\.txt\.gz, after line \d: can't be read", id="gzip"
        ),
        pytest.param(lambda f: write(f / "a.parquet"), r"a\.parquet can't be read as Parquet", id="no Parquet"),
        pytest.param(
            lambda f: write_parquet(f / "a.parquet", body=["하나"]),
            "column: .* has no column 'text'; it has body",
            id="column",
        ),
        pytest.param(
            lambda f: write_parquet(f / "a.parquet", text=[1]),
            "column: .* the column 'text' holds no text",
            id="numbers",
        ),
    ],
)
def test_what_can_not_be_read_is_one_sentence(tmp_path, make, said):
    with pytest.raises(KonerError, match=said) as error:
        list(read_texts(str(make(tmp_path))))
    assert "\n" not in str(error.value)


def test_a_hub_dataset_is_streamed(monkeypatch):
    asked = {}

    def load_dataset(name, **options):
        asked.update(options, name=name)
        return iter([{"text": " 하나 "}, {"text": None}, {"text": "둘"}])

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_texts("someone/corpus", revision="abc")) == ["하나", "둘"]
    assert asked == {"name": "someone/corpus", "split": "train", "revision": "abc", "streaming": True}
    with pytest.raises(KonerError, match="column: someone/corpus has no text column 'body'; it has text"):
        list(read_texts("someone/corpus", "body"))


def test_a_hub_dataset_out_of_reach_is_one_sentence(monkeypatch):
    def no_hub(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", no_hub)
    with pytest.raises(KonerError, match=r"^texts: the hub can't be reached for someone/corpus \(no route\)"):
        list(read_texts("someone/corpus"))
