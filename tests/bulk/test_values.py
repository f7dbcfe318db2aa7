"""Values of the input that could be altered or lost on their way to the output."""

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koner.errors import KonerError
from tests.bulk.corpus import read_corpus, rejected_of


def test_parquet_columns_of_the_same_name_are_refused(tmp_path):
    for names in (["text", "text"], ["id", "id", "text"]):
        table = pa.table([pa.array(["a"])] * len(names), names)
        pq.write_table(table, tmp_path / "in.parquet")
        with pytest.raises(KonerError, match=rf"in\.parquet has 2 columns '{names[0]}'; rename them$"):
            read_corpus(tmp_path / "in.parquet", tmp_path / "out")


def test_a_column_that_one_parquet_file_lacks_is_null_there(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    nested = pa.struct([pa.field("a", pa.int64(), nullable=False)])
    schema = pa.schema(
        [
            pa.field(name, type_, nullable=False)
            for name, type_ in [("text", pa.string()), ("id", pa.int64()), ("d", nested)]
        ]
    )
    pq.write_table(pa.table({"text": ["가"], "id": [1], "d": [{"a": 1}]}, schema), folder / "a.parquet")
    pq.write_table(pa.table({"text": ["나"]}), folder / "b.parquet")
    _, blocks = read_corpus(folder, tmp_path / "out")
    rows = pa.concat_tables([batch.table for block in blocks for batch in block]).to_pylist()
    assert rows == [{"text": "가", "id": 1, "d": {"a": 1}}, {"text": "나", "id": None, "d": None}]


def test_parquet_values_are_not_rounded(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    number = pa.array(["0.1234567890123456789"]).cast(pa.decimal128(20, 19))
    for column in (
        number,
        pa.StructArray.from_arrays([number], ["a"]),
        pa.array([number.to_pylist()], pa.list_(number.type)),
    ):
        other = pa.array([None], column.type)
        wide = {"decimal128(20, 19)": pa.float64()}.get(str(column.type))
        if wide is None:
            wide = pa.struct([("a", pa.float64())]) if pa.types.is_struct(column.type) else pa.list_(pa.float64())
        pq.write_table(pa.table({"text": ["가"], "n": column}), folder / "a.parquet")
        pq.write_table(pa.table({"text": ["나"], "n": other.cast(wide)}), folder / "b.parquet")
        with pytest.raises(
            KonerError, match=r"the column 'n' is .*decimal.* in .*a\.parquet and .*double.* in another"
        ):
            read_corpus(folder, tmp_path / "out")


def test_a_parquet_value_that_the_common_type_cannot_hold_is_reported(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["가"], "n": [2**53 + 1]}), folder / "a.parquet")
    pq.write_table(pa.table({"text": ["나"], "n": [0.5]}), folder / "b.parquet")
    with pytest.raises(
        KonerError, match=r"a\.parquet: a value in the column 'n' does not fit its type double: Integer"
    ):
        read_corpus(folder, tmp_path / "out")


def test_parquet_values_of_every_type_are_kept(tmp_path):
    table = pa.table(
        {
            "text": ["가"],
            "u": pa.array([2**64 - 1], pa.uint64()),
            "nan": [float("nan")],
            "zero": [-0.0],
            "d": pa.array(["1.10"]).cast(pa.decimal256(60, 2)),
            "ns": pa.array([1], pa.timestamp("ns", "Asia/Seoul")),
            "day": pa.array([-1_000_000], pa.date32()),
            "time": pa.array([1], pa.time64("ns")),
            "b": [b"\xff\0"],
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
            "null": pa.nulls(1),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    _, [[batch]] = read_corpus(tmp_path / "in.parquet", tmp_path / "out")
    assert batch.table.schema == table.schema
    # NaN equals nothing.
    assert batch.table.drop(["nan", "zero"]).equals(table.drop(["nan", "zero"]))
    assert str(batch.table.select(["nan", "zero"]).to_pylist()) == "[{'nan': nan, 'zero': -0.0}]"


def test_a_parquet_file_with_fewer_rows_than_its_footer_counts_is_reported(tmp_path):
    pq.write_table(pa.table({"text": ["가", "나"]}), tmp_path / "good.parquet")
    content = (tmp_path / "good.parquet").read_bytes()
    messages = set()
    for place in range(4, len(content)):
        path = tmp_path / f"{place}.parquet"
        path.write_bytes(content[:place] + b"o" + content[place + 1 :])
        try:
            plan, blocks = read_corpus(path, tmp_path / f"out-{place}")
        except (KonerError, OSError, pa.ArrowException) as error:
            messages.add(str(error).partition("is damaged: ")[2])
        else:
            assert sum(len(block.texts) + len(block.rejected) for [block] in blocks) == plan.blocks[0].rows
    assert "it ends after row 0, before row 2 that its footer counts" in messages


def test_a_rejected_row_may_hold_values_that_python_cannot(tmp_path):
    far_day = pa.array([-1_000_000], pa.date32())
    pq.write_table(pa.table({"text": pa.nulls(1, pa.string()), "day": far_day}), tmp_path / "in.parquet")
    _, blocks = read_corpus(tmp_path / "in.parquet", tmp_path / "out")
    assert rejected_of(blocks) == [(1, "'text' is null", '{"text": null, "day": null}')]


NUMBERS = [
    "1e999",
    "-1e400",
    "1e-999",
    "1e99999999999999999999",
    "0.1234567890123456789",
    "123456789012345678901234567890",
]
KEPT = [
    "-0.0",
    "1.10",
    "1E5",
    "0.1",
    "0.10000000000000001",
    "0.1000000000000000055511151231257827",
    "5e-324",
    "9007199254740993",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_json_number_that_its_type_cannot_hold_is_stored_as_it_is_written_or_rejected(tmp_path, number):
    (tmp_path / "in.jsonl").write_text(
        f'{{"text": "가", "n": {number}, "o": {{"a": [{number}, 1.50]}}, "l": [{number}]}}\n'
    )
    _, [[batch]] = read_corpus(tmp_path / "in.jsonl", tmp_path / "out")
    assert batch.rejected == []
    [row] = batch.table.to_pylist()
    assert (row["n"], row["o"], row["l"]) == (number, f'{{"a": [{number}, 1.50]}}', f"[{number}]")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_json_number_that_does_not_fit_its_column_rejects_its_row(tmp_path, number):
    lines = ['{"text": "가", "n": 0.5, "l": [0.5]}'] * 10_000
    lines += [f'{{"text": "나", "n": {number}}}', f'{{"text": "다", "l": [{number}]}}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    _, blocks = read_corpus(tmp_path / "in.jsonl", tmp_path / "out")
    assert [reason for _, reason, _ in rejected_of(blocks)] == [
        f"'{name}' is not of the type {type_}, or has a value that this type can't hold exactly"
        for name, type_ in [("n", "double"), ("l", "list<double>")]
    ]


@pytest.mark.parametrize("number", KEPT)
def test_a_json_number_is_kept(tmp_path, number):
    (tmp_path / "in.jsonl").write_text(f'{{"text": "가", "n": {number}, "l": [{number}], "o": {{"a": {number}}}}}\n')
    _, [[batch]] = read_corpus(tmp_path / "in.jsonl", tmp_path / "out")
    [row] = batch.table.to_pylist()
    value = float(number) if any(c in number for c in ".eE") else int(number)
    assert str([row["n"], row["l"]]) == str([value, [value]])
    assert row["o"] == f'{{"a": {number}}}'


def test_other_json_that_is_ambiguous_is_rejected(tmp_path):
    bad = [
        '{"text": "a", "o": {"k": 1, "k": 2}}',
        '{"text": "a", "n": NaN}',
        '{"text": "\\ud800"}',
        '{"text": "a", "n": Infinity}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(['{"text": "a", "o": {}, "n": 1}', *bad]))
    _, blocks = read_corpus(tmp_path / "in.jsonl", tmp_path / "out")
    assert [number for number, _, _ in rejected_of(blocks)] == [2, 3, 4, 5]


def test_int96_timestamps_are_not_altered(tmp_path):
    days = [datetime(9999, 12, 31), datetime(1, 1, 1), None, datetime(2020, 1, 1, microsecond=1)] * 1000
    table = pa.table({"text": ["가"] * 4000, "t": pa.array(days, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True, row_group_size=1500)
    _, blocks = read_corpus(tmp_path / "a.parquet", tmp_path / "a", block_rows=1100)
    assert pa.concat_tables([batch.table for block in blocks for batch in block]).equals(table)
    table = pa.table({"text": ["가"], "t": pa.array([1], pa.timestamp("ns"))})
    pq.write_table(table, tmp_path / "b.parquet", use_deprecated_int96_timestamps=True)
    with pytest.raises(KonerError, match=r"b\.parquet: the column 't' has INT96 timestamps in nanoseconds"):
        read_corpus(tmp_path / "b.parquet", tmp_path / "b")
