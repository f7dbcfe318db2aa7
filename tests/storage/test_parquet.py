import pyarrow as pa
import pytest

from koner.errors import KonerError
from koner.storage import parquet
from koner.storage.parquet import count_rows, read_batches, read_rows, sample_rows, write_batches, write_rows

SCHEMA = pa.schema([("id", pa.string()), ("tags", pa.list_(pa.string()))])
ROWS = [
    {"id": "a", "tags": ["B-LC", "I-LC"]},
    {"id": "b", "tags": []},
    {"id": "c", "tags": ["O"]},
    {"id": None, "tags": ["O", "O"]},
]


@pytest.mark.parametrize("group", [1, 2, 4, 100])
def test_rows_are_written_and_read(tmp_path, monkeypatch, group):
    monkeypatch.setattr(parquet, "ROW_GROUP", group)
    path = tmp_path / "new" / "part.parquet"
    assert write_rows(path, iter(ROWS), SCHEMA) == count_rows(path) == 4
    assert list(read_rows(path)) == ROWS
    assert list(read_rows(path, ["id"])) == [{"id": row["id"]} for row in ROWS]


def test_a_file_without_rows_is_written_and_read(tmp_path):
    assert write_rows(tmp_path / "part.parquet", [], SCHEMA) == 0
    assert list(read_rows(tmp_path / "part.parquet")) == []


def test_a_missing_file_is_reported_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(KonerError, match=r"part\.parquet is missing; run `dvc repro`"):
        list(read_rows(tmp_path / "part.parquet"))
    with pytest.raises(KonerError, match=r"part\.parquet is missing; run `dvc repro`"):
        list(sample_rows(tmp_path / "part.parquet", 2))


def test_the_bytes_of_a_file_do_not_depend_on_the_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 3)
    whole = pa.RecordBatch.from_pylist(ROWS, SCHEMA)
    batches_by_file = {
        "one": [whole],
        "uneven": [whole[:1], whole[1:1], whole[1:]],
        "single": [whole[i : i + 1] for i in range(4)],
    }
    for name, batches in batches_by_file.items():
        assert write_batches(tmp_path / name, batches, SCHEMA) == 4
    assert len({(tmp_path / name).read_bytes() for name in batches_by_file}) == 1
    assert [batch.num_rows for batch in read_batches(tmp_path / "one")] == [4]


def test_a_sample_is_spread_over_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH", 3)
    path = tmp_path / "rows.parquet"
    write_rows(path, ({"id": str(i), "tags": []} for i in range(10)), SCHEMA)
    assert [row["id"] for row in sample_rows(path, 4)] == ["0", "2", "5", "7"]
    assert [row["id"] for row in sample_rows(path, 10)] == list("0123456789")
    assert [row["id"] for row in sample_rows(path, 99)] == list("0123456789")
    write_rows(path, [], SCHEMA)
    assert list(sample_rows(path, 4)) == []
