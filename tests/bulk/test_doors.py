"""Any input is read, rejected row by row, or refused in one sentence."""

import json
import re
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koner.bulk.addresses import absolute_address
from koner.bulk.folder import Folder
from koner.bulk.plan import prepare_plan
from koner.bulk.tagging import BlockTagger
from koner.errors import KonerError

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBER = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,6})?", fullmatch=True)
NAMES = st.sampled_from(["text", "entities", "id", "", "\0", "a.b", "텍스트"]) | st.text(max_size=3)


def object_of(fields):
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields) + "}"


JSON = st.recursive(
    st.sampled_from(["null", "true", '""', '"\\u0000"', '"\\ud800"', "NaN", "1e999", "{", '"가"']) | NUMBER,
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(NAMES, inner), max_size=2).map(object_of)
    ),
    max_leaves=5,
)
VALUES = st.none() | st.text(max_size=3) | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=3)
COLUMN = st.lists(VALUES, min_size=2, max_size=2) | st.lists(st.text(), min_size=2, max_size=2)
# Errors of the program would be told as if the file could not be read.
PROGRAM_ERROR = r"read: '[^']*'$|no attribute|argument|unpack|subscriptable|Error"
TYPES = [
    *(pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary(), pa.null()),
    *(
        pa.int8(),
        pa.uint64(),
        pa.float16(),
        pa.float64(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("ns"),
        pa.decimal128(5, 2),
    ),
    *(pa.list_(pa.string()), pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8())),
]


class NoEntities:
    """A tagger that finds nothing."""

    def tag_all(self, texts):
        return [SimpleNamespace(entities=[])] * len(texts)


def tag_or_refuse(folder, content, name, **settings):
    """Tag a corpus: every row is in the output, as it is or as a rejected row, or the input is refused."""
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    output = Folder(absolute_address(str(folder / "out")))
    try:
        plan = prepare_plan(str(path), output, "hash", **settings)
        results = [BlockTagger(plan, output, NoEntities)(block) for block in plan.blocks]
    except KonerError as error:
        assert not re.search(PROGRAM_ERROR, str(error)), error  # noqa: PT017
        return
    assert sum(block.rows for block in plan.blocks) == sum(result.tagged + result.rejected for result in results)
    tables = [pq.read_table(path) for path in sorted((folder / "out").glob("part-*"))]
    assert sum(table.num_rows for table in tables) == sum(result.tagged for result in results)
    assert {tuple(table.column_names) for table in tables} == {(*plan.columns.names, "entities")}


@FEW
@given(st.lists(st.lists(st.tuples(NAMES, JSON), max_size=3).map(object_of) | JSON | st.text(max_size=5), max_size=5))
def test_any_json_lines(tmp_path_factory, lines):
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    tag_or_refuse(tmp_path_factory.mktemp("in"), content, "in.jsonl", block_rows=2)


@FEW
@given(
    st.binary(max_size=600), st.sampled_from(["text", "jsonl", "parquet"]), st.sampled_from(["", ".gz", ".xz", ".bz2"])
)
def test_any_bytes(tmp_path_factory, content, format_, extension):
    tag_or_refuse(tmp_path_factory.mktemp("in"), content, f"in{extension}", input_format=format_, block_rows=2)


@FEW
@given(st.data())
def test_any_parquet_columns(tmp_path_factory, data):
    names, columns = [], []
    for _ in range(data.draw(st.integers(1, 3))):
        values, type_ = data.draw(COLUMN), data.draw(st.sampled_from(TYPES))
        try:
            columns.append(pa.array(values).cast(type_, safe=False))
        except (pa.ArrowException, TypeError, ValueError, UnicodeEncodeError):
            columns.append(pa.nulls(2, type_))
        names.append(data.draw(st.sampled_from(["text", "id", ""])))
    try:
        table = pa.table(columns, names)
    except UnicodeEncodeError:
        return
    tag_or_refuse(tmp_path_factory.mktemp("in"), table, "in.parquet", block_rows=1)


@FEW
@given(st.data())
def test_any_damage_to_a_parquet_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("in")
    pq.write_table(pa.table({"text": ["가", "나"], "id": [1, 2]}), folder / "good.parquet")
    content = bytearray((folder / "good.parquet").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "good.parquet").unlink()
    tag_or_refuse(folder, bytes(content), "in.parquet")
