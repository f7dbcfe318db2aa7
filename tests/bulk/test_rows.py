import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.bulk import line_rows, parquet_rows
from koner.bulk.addresses import absolute_address
from koner.bulk.blocks import CountedFile, split_into_blocks
from koner.bulk.files import CorpusFile
from koner.bulk.json_types import build_schema, convert_value, infer_type, merge_types, read_types
from koner.bulk.rows import MAX_TEXT_LENGTH
from koner.errors import KonerError
from tests.bulk.corpus import read_corpus, rejected_of, texts_of

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2)
)


@given(st.lists(st.lists(st.sampled_from(["", "가", "나다", "\r"]), max_size=9), min_size=1, max_size=4), st.data())
def test_blocks_of_lines_have_the_requested_size_and_lose_no_line(tmp_path_factory, files, data):
    folder = tmp_path_factory.mktemp("lines")
    size = data.draw(st.integers(1, 5))
    for i, lines in enumerate(files):
        (folder / f"{i}.txt").write_bytes("\n".join([*lines, ""][: len(lines) + data.draw(st.integers(0, 1))]).encode())
    expected = [
        line.removesuffix("\r")
        for path in sorted(folder.iterdir())
        for line in path.read_bytes().decode().removesuffix("\n").split("\n")
        if path.stat().st_size
    ]
    if not expected:
        return
    _, blocks = read_corpus(folder, folder.with_name(folder.name + "-out"), block_rows=size)
    assert [text for block in texts_of(blocks) for text in block] == expected
    assert {len(block) for block in texts_of(blocks)[:-1]} <= {size}


def test_a_compressed_file_is_not_split_between_blocks():
    a, b, c = (CorpusFile(name, "version") for name in ("a", "b.gz", "c"))
    files = [
        CountedFile(a, 3, starts={0: (0, "a0"), 2: (20, "a2")}),
        CountedFile(b, 5, "b0", is_splittable=False),
        CountedFile(c, 3, starts={0: (0, "c0"), 2: (7, "c2")}),
    ]
    blocks = list(split_into_blocks(files, 2))
    assert [[(p.address, p.digest, p.first, p.rows, p.offset) for p in block.pieces] for block in blocks] == [
        [("a", "a0", 0, 2, 0)],
        [("a", "a2", 2, 1, 20), ("b.gz", "b0", 0, 5, 0)],
        [("c", "c0", 0, 2, 0)],
        [("c", "c2", 2, 1, 7)],
    ]


def test_offsets_of_lines_after_a_compressed_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_text("가\n나\n다\n")
    (folder / "b.txt.gz").write_bytes(gzip.compress("라\n마\n바".encode()))
    (folder / "c.txt").write_text("사\n아\n자")
    _, blocks = read_corpus(folder, tmp_path / "out", block_rows=2)
    assert texts_of(blocks) == [["가", "나"], ["다", "라", "마", "바"], ["사", "아"], ["자"]]


def test_blocks_that_begin_at_the_end_of_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(line_rows, "_CHUNK", 4)
    (tmp_path / "in.txt").write_text("abc\nd\n\nefghijklm\nn")
    _, blocks = read_corpus(tmp_path / "in.txt", tmp_path / "out", block_rows=1)
    assert texts_of(blocks) == [["abc"], ["d"], [""], ["efghijklm"], ["n"]]


def test_malformed_lines_are_rejected_with_their_number_and_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(line_rows, "_MAX_LINE_LENGTH", MAX_TEXT_LENGTH + 100)
    monkeypatch.setattr(line_rows, "SAMPLE_ROWS", 1)
    good = [{"id": 1, "text": "가"}, {"text": "나", "id": None}]
    bad = [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ("", "the line is empty"),
        ("[1]", "not a JSON object"),
        ('{"id": 1}', "there is no 'text'"),
        ('{"text": null}', "'text' is null"),
        ('{"text": 5}', "'text' is not a string"),
        ('{"text": "a", "text": "b"}', 'not JSON: Detected duplicate key "text" at line 1 column 22'),
        ('{"text": "a", "id": "one"}', "'id' is not of the type int64"),
        ('{"text": "a", "id": 2.5}', "'id' is not of the type int64"),
        (json.dumps({"text": "a" * (MAX_TEXT_LENGTH + 1)}), f"'text' has {MAX_TEXT_LENGTH + 1} characters, more than"),
        ("x" * (MAX_TEXT_LENGTH + 200), "the line has more than"),
        ("\udcff", "byte 1 is not UTF-8"),
    ]
    lines = [json.dumps(good[0]), *(line for line, _ in bad), json.dumps(good[1])]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode(errors="surrogateescape"))
    _, blocks = read_corpus(path, tmp_path / "out", block_rows=4)
    assert [text for block in texts_of(blocks) for text in block] == ["가", "나"]
    for (number, reason, row), (n, (line, expected)) in zip(rejected_of(blocks), enumerate(bad, 2), strict=True):
        assert (number, reason[: len(expected)]) == (n, expected)
        assert row[:50] == line.replace("\udcff", "\\xff")[:50]


def test_a_row_with_a_field_that_is_not_in_the_sample_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(line_rows, "SAMPLE_ROWS", 1)
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "b", "late": 1}\n')
    _, blocks = read_corpus(tmp_path / "in.jsonl", tmp_path / "out")
    assert [(n, reason) for n, reason, _ in rejected_of(blocks)] == [
        (2, "the field 'late' is in none of the first 1 lines")
    ]


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_an_inferred_column_keeps_every_value(values):
    type_ = None
    for value in values:
        type_ = merge_types(type_, infer_type(value))
    schema = build_schema({"x": type_})
    [(name, column_type)] = read_types(schema).items()
    try:
        rows = [{name: convert_value(column_type, value, name)} for value in values]
    except ValueError:
        # A double would round an integer.
        assert "double" in column_type
        return
    stored = pa.Table.from_pylist(rows, schema).column("x").to_pylist()
    if column_type == "json":
        stored = [value if value is None else json.loads(value) for value in stored]
    assert stored == values


def test_parquet_columns_are_kept_and_cast_to_a_common_schema(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    first = pa.table({"text": ["가", None, "다"], "n": pa.array([1, 2, 3], pa.int32()), "d": [{"a": 1}] * 3})
    second = pa.table({"n": pa.array([4, 5], pa.int64()), "text": pa.array(["라", "마"]).dictionary_encode()})
    pq.write_table(first, folder / "a.parquet", row_group_size=2)
    pq.write_table(second.set_column(1, "text", second["text"].cast(pa.string())), folder / "b.parquet")
    plan, blocks = read_corpus(folder, tmp_path / "out", block_rows=2)
    assert texts_of(blocks) == [["가"], ["다", "라"], ["마"]]
    assert rejected_of(blocks) == [(2, "'text' is null", '{"text": null, "n": 2, "d": {"a": 1}}')]
    tables = [batch.table for block in blocks for batch in block]
    assert pa.concat_tables(tables).to_pylist() == [
        {"text": "가", "n": 1, "d": {"a": 1}},
        {"text": "다", "n": 3, "d": {"a": 1}},
        {"text": "라", "n": 4, "d": None},
        {"text": "마", "n": 5, "d": None},
    ]
    assert plan.columns.field("n").type == pa.int64()


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_blocks_of_parquet_need_not_match_its_row_groups(tmp_path, monkeypatch, type_):
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 3)
    texts = [str(n) for n in range(17)]
    pq.write_table(pa.table({"text": pa.array(texts).cast(type_)}), tmp_path / "in.parquet", row_group_size=7)
    _, blocks = read_corpus(tmp_path / "in.parquet", tmp_path / "out", block_rows=4)
    assert texts_of(blocks) == [texts[i : i + 4] for i in range(0, 17, 4)]


def test_a_parquet_text_that_is_not_utf8_is_rejected(tmp_path):
    wrong = pa.array([b"ok", b"\xb0\xa1"]).view(pa.string())
    pq.write_table(pa.table({"text": wrong, "other": wrong}), tmp_path / "in.parquet")
    _, blocks = read_corpus(tmp_path / "in.parquet", tmp_path / "out")
    assert texts_of(blocks) == [["ok"]]
    assert rejected_of(blocks) == [(2, "byte 1 is not UTF-8", '{"text": "\\\\xb0\\\\xa1", "other": null}')]


def test_unusable_parquet_columns_are_reported(tmp_path):
    pq.write_table(pa.table({"text": [1]}), tmp_path / "in.parquet")
    with pytest.raises(KonerError, match="the column 'text' holds int64, not strings"):
        read_corpus(tmp_path / "in.parquet", tmp_path / "out")
    with pytest.raises(KonerError, match="the input has no column 'body'; it has text"):
        read_corpus(tmp_path / "in.parquet", tmp_path / "out", column="body")
    files = [
        CorpusFile(absolute_address(str(tmp_path / "in.parquet")), ""),
        CorpusFile(absolute_address(str(tmp_path / "b.parquet")), ""),
    ]
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(KonerError, match=r"the columns of .*b\.parquet don't match .*in\.parquet"):
        parquet_rows.read_footers(files, "text")
