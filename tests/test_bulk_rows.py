import gzip
import json
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.bulk import line_rows, parquet_rows
from koner.bulk.blocks import Counted, cut
from koner.bulk.files import CorpusFile, Folder, absolute, corpus_files
from koner.bulk.job import prepare
from koner.bulk.json_types import kind_of, merged, settled, types_of, value_in
from koner.bulk.rows import LONGEST_TEXT
from koner.errors import KonerError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2)
)


def batches(source, output, **settings):
    """What the blocks of an input hold: the texts and the malformed rows of each."""
    plan = prepare(str(source), Folder(absolute(str(output))), "hash", **settings)
    return plan, [[batch for piece in block.pieces for batch in plan.read(piece)] for block in plan.blocks]


def texts_of(found):
    return [[text for batch in block for text in batch.texts] for block in found]


def rejected_of(found):
    return [(r.number, r.reason, r.row) for block in found for batch in block for r in batch.rejected]


@given(st.lists(st.lists(st.sampled_from(["", "가", "나다", "\r"]), max_size=9), min_size=1, max_size=4), st.data())
def test_lines_are_cut_into_blocks_of_the_rows_asked_for_with_nothing_lost(tmp_path_factory, files, data):
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
    _, found = batches(folder, folder.with_name(folder.name + "-out"), block_rows=size)
    assert [text for block in texts_of(found) for text in block] == expected
    assert {len(block) for block in texts_of(found)[:-1]} <= {size}


def test_a_compressed_file_stands_whole_in_a_block_and_the_others_are_cut_around_it():
    files = [Counted("a", 3, {2: 20}), Counted("b.gz", 5, whole=True), Counted("c", 3, {2: 7})]
    blocks = list(cut(files, 2))
    assert [[(p.address, p.first, p.rows, p.offset) for p in block.pieces] for block in blocks] == [
        [("a", 0, 2, 0)],
        [("a", 2, 1, 20), ("b.gz", 0, 5, 0)],
        [("c", 0, 2, 0)],
        [("c", 2, 1, 7)],
    ]


def test_lines_are_found_again_behind_a_compressed_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_text("가\n나\n다\n")
    (folder / "b.txt.gz").write_bytes(gzip.compress("라\n마\n바".encode()))
    (folder / "c.txt").write_text("사\n아\n자")
    _, found = batches(folder, tmp_path / "out", block_rows=2)
    assert texts_of(found) == [["가", "나"], ["다", "라", "마", "바"], ["사", "아"], ["자"]]


def test_lines_are_cut_where_a_chunk_of_the_file_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(line_rows, "_CHUNK", 4)
    (tmp_path / "in.txt").write_text("abc\nd\n\nefghijklm\nn")
    _, found = batches(tmp_path / "in.txt", tmp_path / "out", block_rows=1)
    assert texts_of(found) == [["abc"], ["d"], [""], ["efghijklm"], ["n"]]


def test_malformed_lines_are_told_with_their_number_and_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(line_rows, "_LONGEST_LINE", LONGEST_TEXT + 100)
    monkeypatch.setattr(line_rows, "SAMPLE_ROWS", 1)
    good = [{"id": 1, "text": "가"}, {"text": "나", "id": None}]
    bad = [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ("", "the line is empty"),
        ("[1]", "not a JSON object"),
        ('{"id": 1}', "there is no 'text'"),
        ('{"text": null}', "'text' is null"),
        ('{"text": 5}', "'text' is no string"),
        ('{"text": "a", "text": "b"}', 'not JSON: Detected duplicate key "text" at line 1 column 22'),
        ('{"text": "a", "id": "one"}', "'id' is no int64"),
        ('{"text": "a", "id": 2.5}', "'id' is no int64"),
        (json.dumps({"text": "a" * (LONGEST_TEXT + 1)}), f"'text' has {LONGEST_TEXT + 1} characters, more than"),
        ("x" * (LONGEST_TEXT + 200), "the line has more than"),
        ("\udcff", "byte 1 is not UTF-8"),
    ]
    lines = [json.dumps(good[0]), *(line for line, _ in bad), json.dumps(good[1])]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode(errors="surrogateescape"))
    _, found = batches(path, tmp_path / "out", block_rows=4)
    assert [text for block in texts_of(found) for text in block] == ["가", "나"]
    for (number, reason, row), (n, (line, expected)) in zip(rejected_of(found), enumerate(bad, 2), strict=True):
        assert (number, reason[: len(expected)]) == (n, expected)
        assert row[:50] == line.replace("\udcff", "\\xff")[:50]


def test_a_field_that_comes_up_late_puts_its_row_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(line_rows, "SAMPLE_ROWS", 1)
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "b", "late": 1}\n')
    _, found = batches(tmp_path / "in.jsonl", tmp_path / "out")
    assert [(n, reason) for n, reason, _ in rejected_of(found)] == [
        (2, "'late' is a field of none of the first 1 lines")
    ]


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_column_gives_every_value_back_that_it_was_made_for(values):
    kind = None
    for value in values:
        kind = merged(kind, kind_of(value))
    schema = settled({"x": kind})
    [(name, found)] = types_of(schema).items()
    try:
        rows = [{name: value_in(found, value, name)} for value in values]
    except ValueError:
        # A whole number that a double would round.
        assert "double" in found
        return
    given_back = pa.Table.from_pylist(rows, schema).column("x").to_pylist()
    if found == "json":
        given_back = [value if value is None else json.loads(value) for value in given_back]
    assert given_back == values


def test_the_columns_of_parquet_stay_what_they_are_and_files_may_differ_in_width(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    first = pa.table({"text": ["가", None, "다"], "n": pa.array([1, 2, 3], pa.int32()), "d": [{"a": 1}] * 3})
    second = pa.table({"n": pa.array([4, 5], pa.int64()), "text": pa.array(["라", "마"]).dictionary_encode()})
    pq.write_table(first, folder / "a.parquet", row_group_size=2)
    pq.write_table(second.set_column(1, "text", second["text"].cast(pa.string())), folder / "b.parquet")
    plan, found = batches(folder, tmp_path / "out", block_rows=2)
    assert texts_of(found) == [["가"], ["다", "라"], ["마"]]
    assert rejected_of(found) == [(2, "'text' is null", '{"text": null, "n": 2, "d": {"a": 1}}')]
    tables = [batch.table for block in found for batch in block]
    assert pa.concat_tables(tables).to_pylist() == [
        {"text": "가", "n": 1, "d": {"a": 1}},
        {"text": "다", "n": 3, "d": {"a": 1}},
        {"text": "라", "n": 4, "d": None},
        {"text": "마", "n": 5, "d": None},
    ]
    assert plan.columns.field("n").type == pa.int64()


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_any_row_of_parquet_is_found_whatever_its_row_groups(tmp_path, monkeypatch, type_):
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 3)
    texts = [str(n) for n in range(17)]
    pq.write_table(pa.table({"text": pa.array(texts).cast(type_)}), tmp_path / "in.parquet", row_group_size=7)
    _, found = batches(tmp_path / "in.parquet", tmp_path / "out", block_rows=4)
    assert texts_of(found) == [texts[i : i + 4] for i in range(0, 17, 4)]


def test_a_text_of_parquet_that_is_not_utf8_is_put_aside(tmp_path):
    wrong = pa.array([b"ok", b"\xb0\xa1"]).view(pa.string())
    pq.write_table(pa.table({"text": wrong, "other": wrong}), tmp_path / "in.parquet")
    _, found = batches(tmp_path / "in.parquet", tmp_path / "out")
    assert texts_of(found) == [["ok"]]
    assert rejected_of(found) == [(2, "byte 1 is not UTF-8", '{"text": "\\\\xb0\\\\xa1", "other": null}')]


def test_a_folder_gives_its_files_in_order_and_passes_over_what_is_hidden(tmp_path):
    for name in ("b.jsonl", "a/c.jsonl.gz", "_run/x.jsonl", "a/.y.jsonl", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = corpus_files(str(tmp_path), None)
    assert (found[0], [f.address.removeprefix(f"file://{tmp_path}/") for f in found[1]]) == (
        "jsonl",
        ["a/c.jsonl.gz", "b.jsonl"],
    )
    assert [f.address for f in corpus_files(f"{tmp_path}/*.md", "text")[1]] == [f"file://{tmp_path}/README.md"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.parquet", b"PAR", r".*in\.parquet can't be read: .*"),
        ("in.parquet.gz", b"", r".* is a compressed Parquet file.*"),
        ("in.csv", b"a", r".*: its ending tells no format; give --input-format.*"),
        ("in.txt", b"", r".*in\.txt has no rows"),
        ("in.jsonl", b'{"body": 1}\n[]', r"of the input's first 10000 lines none has a field 'text'; they have body.*"),
        ("in.jsonl", b'{"text": "a", "entities": []}', r"the input has a column 'entities' already.*--into"),
    ],
)
def test_an_input_that_cannot_be_tagged_is_told_in_a_sentence(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KonerError, match=f"^{told}$"):
        batches(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out/_run/manifest.json").exists()


def test_what_is_not_there_or_of_no_known_kind_is_told(tmp_path):
    with pytest.raises(KonerError, match=r"none can't be read: there is no such file or folder$"):
        corpus_files(str(tmp_path / "none"), None)
    with pytest.raises(KonerError, match=r"holds no jsonl file$"):
        corpus_files(str(tmp_path), "jsonl")
    with pytest.raises(KonerError, match=r"^nowhere://x can't be read: Protocol not known: nowhere"):
        absolute("nowhere://x")
    with pytest.raises(KonerError, match="OUTPUT outside"):
        prepare(str(tmp_path), Folder(absolute(str(tmp_path / "out"))), "hash")


def test_columns_of_other_types_are_told(tmp_path):
    pq.write_table(pa.table({"text": [1]}), tmp_path / "in.parquet")
    with pytest.raises(KonerError, match="the column 'text' holds int64, not strings"):
        batches(tmp_path / "in.parquet", tmp_path / "out")
    with pytest.raises(KonerError, match="the input has no column 'body'; it has text"):
        batches(tmp_path / "in.parquet", tmp_path / "out", column="body")
    files = [
        CorpusFile(absolute(str(tmp_path / "in.parquet")), ""),
        CorpusFile(absolute(str(tmp_path / "b.parquet")), ""),
    ]
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(KonerError, match=r"b\.parquet doesn't go with .*in\.parquet"):
        parquet_rows.survey(files, "text")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"block_rows": 3}, r"was begun with block_rows 2, and now it is 3; give a new folder$"),
        ({"min_score": 0.5}, r"was begun with min_score 0\.0, and now it is 0\.5; give a new folder$"),
        ({"model": "other"}, r"was begun with another model, of the hash hash, and this one has other;"),
        ({"lines": "가\n나\n다라\n"}, r"was begun on an input that has changed since; give a new folder$"),
        ({}, None),
    ],
)
def test_a_folder_goes_on_with_the_same_only(tmp_path, change, told):
    path, folder = tmp_path / "in.txt", Folder(absolute(str(tmp_path / "out")))
    path.write_text("가\n나\n다\n")
    plan = prepare(str(path), folder, "hash", block_rows=2)
    path.write_text(change.pop("lines", None) or path.read_text()) if "lines" in change else None
    settings = {"block_rows": 2, "model": "hash"} | change
    if told is None:
        assert prepare(str(path), folder, **settings) == plan
        return
    with pytest.raises(KonerError, match=told):
        prepare(str(path), folder, **settings)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "in.txt").write_text("가\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/part-00000.parquet").touch()
    with pytest.raises(KonerError, match="holds something already, and no run of koner; give a new folder"):
        prepare(str(tmp_path / "in.txt"), Folder(absolute(str(tmp_path / "out"))), "hash")


def test_what_is_written_is_there_whole_or_not_at_all(tmp_path):
    folder = Folder(absolute(str(tmp_path)))
    with pytest.raises(TypeError), folder.writing("a/b") as file:
        file.write(b"half" + None)
    assert not folder.has("a/b")
    with folder.writing("a/b") as file:
        file.write(b"whole")
        assert not folder.has("a/b")
    assert (tmp_path / "a/b").read_bytes() == b"whole"
    assert list(islice((tmp_path / "_run/drafts").iterdir(), 1)) == []
