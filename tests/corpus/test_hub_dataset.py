import datetime
import decimal
import json
import shutil
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, List
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.errors import KonerError
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from tests.corpus.reading import read, refusal

ROW = {"sentence": "<서울:LC>에", "tokens": ["서", "울", "에"], "ner_tags": [2, 3, 12]}


def write_hub(folder, train=(ROW,), validation=(ROW,), names=KLUE.tags):
    """Write Parquet files in the hub's layout; `names` are the names of the class ids in the files."""
    (folder / "ner").mkdir(parents=True)
    for part, rows in (("train", train), ("validation", validation)):
        if rows is None:
            continue
        table = pa.Table.from_pylist(list(rows))
        if names:
            # `datasets` reads a type for each column from the file, or none at all.
            features = Features.from_arrow_schema(table.schema)
            features["ner_tags"] = List(ClassLabel(names=list(names)))
            metadata = {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
            table = table.replace_schema_metadata(metadata)
        pq.write_table(table, folder / "ner" / f"{part}-00000-of-00001.parquet")
    parts = [part for part, rows in (("train", train), ("validation", validation)) if rows is not None]
    return write_readme(folder, {part: f"ner/{part}-*" for part in parts})


def write_json_lines(folder, rows, information=""):
    """Write JSON lines in the hub's layout, the same rows in both parts."""
    folder.mkdir(parents=True)
    for part in ("train", "validation"):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(lines, encoding="utf-8")
    return write_readme(folder, {part: f"{part}.jsonl" for part in ("train", "validation")}, information)


def write_readme(folder, paths, information=""):
    files = "".join(f"  - {{split: {part}, path: {path}}}\n" for part, path in paths.items())
    readme = f"---\nconfigs:\n- config_name: ner\n  data_files:\n{files}{information}---\n"
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return folder


def without(column):
    return {name: value for name, value in ROW.items() if name != column}


@pytest.mark.parametrize(
    ("row", "names"),
    [
        pytest.param(ROW, KLUE.tags, id="class ids with names"),
        pytest.param({**ROW, "ner_tags": [2, 1, 0]}, ("O", "I-LC", "B-LC"), id="names in another order"),
        pytest.param({**ROW, "ner_tags": ["B-LC", "I-LC", "O"]}, None, id="names of tags"),
        pytest.param(without("sentence"), KLUE.tags, id="no annotated sentence"),
        pytest.param({**ROW, "sentence": None}, KLUE.tags, id="null for the annotated sentence"),
        pytest.param({**ROW, "sentence": "서울에"}, KLUE.tags, id="sentence without marks"),
        pytest.param({**ROW, "sentence": unicodedata.normalize("NFD", "서울에")}, KLUE.tags, id="decomposed sentence"),
        pytest.param(
            {**ROW, "tokens": [unicodedata.normalize("NFD", token) for token in "서울에"]},
            KLUE.tags,
            id="decomposed tokens",
        ),
    ],
)
def test_hub_layout_gives_sentences(tmp_path, row, names):
    parts = read(write_hub(tmp_path / "hub", train=[row], validation=[row], names=names))
    for part in ("train", "validation"):
        (sentence,) = parts[part]
        assert sentence.id == f"{part}-00000"
        assert sentence.text == "서울에"
        assert sentence.tags == ("B-LC", "I-LC", "O")
        assert sentence.entities == (Entity(0, 2, "LC"),)


NUMBERED = ["B-PS", "I-PS", "B-LC", "I-LC", "B-OG", "I-OG", "B-DT", "I-DT", "B-TI", "I-TI", "B-QT", "I-QT", "O"]
INFORMATION = f"""dataset_info:
  config_name: ner
  features:
  - {{name: tokens, list: string}}
  - {{name: ner_tags, list: {{class_label: {{names: {json.dumps({str(i): tag for i, tag in enumerate(NUMBERED)})}}}}}}}
"""
TOKENS = {"tokens": ["박", "은"], "ner_tags": ["B-PS", "O"]}


def test_numbers_without_names_are_refused(tmp_path):
    """In the order of the hub, 0 is a date; in that of KLUE's baseline, a person."""
    sentence = "'ner_tags' has numbers without names, whose meaning is not known; write tags such as 'B-PS', or"
    rows = [{"tokens": ["박", "은"], "ner_tags": [0, 12]}]
    assert sentence in refusal(write_json_lines(tmp_path / "lines", rows))
    assert sentence in refusal(write_hub(tmp_path / "parquet", names=None))


def test_the_readme_can_name_the_numbers(tmp_path):
    rows = [{"tokens": ["박", "은"], "ner_tags": [0, 12]}]
    (sentence,) = read(write_json_lines(tmp_path / "hub", rows, INFORMATION))["train"]
    assert sentence.tags == ("B-PS", "O")


def test_a_number_is_an_id(tmp_path):
    rows = [TOKENS | {"guid": 0}, TOKENS | {"guid": 7}]
    assert [s.id for s in read(write_json_lines(tmp_path / "hub", rows))["train"]] == ["0", "7"]


def test_a_character_of_several_code_points_is_a_token(tmp_path):
    rows = [{"tokens": ["좋", "❤️", "👩‍👧", "주"], "ner_tags": ["O", "O", "B-OG", "I-OG"]}]
    (sentence,) = read(write_json_lines(tmp_path / "hub", rows))["train"]
    assert (sentence.text, sentence.entities) == ("좋❤️👩‍👧주", (Entity(3, 7, "OG"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"guid": None}, "the column 'guid' must be text or whole numbers, not nothing but null", id="null"
        ),
        pytest.param({"guid": 1.5}, "'guid' must be text or whole numbers, not floating-point numbers", id="float"),
        pytest.param({"guid": "2024-01-01"}, "'guid' must be text or whole numbers, not dates", id="dates"),
        pytest.param({"guid": [1]}, "'guid' must be text or whole numbers, not a list of whole numbers", id="list"),
        pytest.param({"source": 3}, "'source' must be text or nothing but null, not whole numbers", id="number"),
        pytest.param({"source": {"a": "b"}}, "'source' must be text or nothing but null, not values of", id="object"),
        pytest.param(
            {"sentence": ["박은"]}, "'sentence' must be text or nothing but null, not a list of text", id="lists"
        ),
        pytest.param({"tokens": "박은"}, "'tokens' must be a list of text, not text", id="text for tokens"),
        pytest.param({"tokens": [1, 2]}, "'tokens' must be a list of text, not a list of whole numbers", id="numbers"),
        pytest.param({"tokens": [["박"], "은"]}, "not a list of values of several types", id="lists in a list"),
        pytest.param({"ner_tags": [0, "O"]}, "not a list of values of several types", id="numbers and names"),
        pytest.param({"ner_tags": [True, False]}, "not a list of values of the type bool", id="true and false"),
        pytest.param({"ner_tags": [0.0, 1.0]}, "not a list of floating-point numbers", id="tags as floats"),
    ],
)
def test_a_column_of_another_type_is_refused(tmp_path, change, message):
    refused = refusal(write_json_lines(tmp_path / "hub", [TOKENS | change]))
    assert refused.startswith(f"source: {tmp_path}/hub, part 'train': the column '")
    assert message in refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guid": None}, "train, row 1: it has no id"),
        ({"guid": ""}, "train, row 1: it has no id"),
        ({"tokens": [None, "은"]}, "train, row 1: 2: token 1 is null"),
        ({"ner_tags": ["O", None]}, "train, row 1: 2: character 2 '은' has no tag"),
        (
            {"ner_tags": ["O", "0"]},
            "on character 2 '은' is not O, B-TYPE or I-TYPE; write the letter O",
        ),
        ({"tokens": ["\u200b박", "은"]}, "train, row 1: 2: token 1 is '\\u200b박', not one character"),
        ({"sentence": "박은\u200b"}, "reads '박은\\u200b' but its characters spell '박은'; they differ at character 3"),
    ],
)
def test_a_value_that_is_not_valid_names_its_row(tmp_path, change, message):
    rows = [TOKENS | {"guid": "1", "sentence": "박은"}, TOKENS | {"guid": "2", "sentence": "박은"} | change]
    assert message in refusal(write_json_lines(tmp_path / "hub", rows))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=3)
    | st.dates().map(str) | st.sampled_from(["박", "O", "B-PS", "<박:PS>", ""]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from("ab"), values, max_size=2),
    max_leaves=6,
)  # fmt: skip
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys(("tokens", "ner_tags", "sentence", "guid", "source"), VALUES))


def assert_sentences_or_one_error(folder):
    try:
        parts = read(folder)
    except KonerError as error:
        first, *others = str(error).splitlines()
        assert first
        assert all(line.startswith("  ") for line in others)
    else:
        for sentence in parts["train"]:
            assert isinstance(sentence.id, str)
            assert sentence.source is None or isinstance(sentence.source, str)
            assert len(sentence.text) == len(sentence.tags)


@settings(max_examples=40)
@given(st.lists(st.builds(TOKENS.__or__, ROWS) | ROWS, min_size=1, max_size=3))
def test_any_json_lines_give_sentences_or_an_error_in_words(tmp_path_factory, rows):
    assert_sentences_or_one_error(write_json_lines(tmp_path_factory.mktemp("fuzz") / "hub", rows))


PARQUET_VALUES = {
    "binary": b"\xff", "date": datetime.date(2024, 1, 1), "timestamp": datetime.datetime(2024, 1, 1), "null": None,
    "decimal": decimal.Decimal("1.5"), "integer": 3, "float": float("nan"), "bytes": [b"a"], "struct": {"a": 1},
    "dates": [datetime.date(2024, 1, 1)], "lists": [["박"]], "nulls": [None, None], "text": "박", "texts": ["박", "은"],
}  # fmt: skip


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["tokens", "ner_tags", "sentence", "guid"]), st.sampled_from([*PARQUET_VALUES])))
def test_any_parquet_rows_give_sentences_or_an_error_in_words(tmp_path_factory, kinds):
    row = TOKENS | {column: PARQUET_VALUES[kind] for column, kind in kinds.items()}
    folder = tmp_path_factory.mktemp("fuzz") / "hub"
    assert_sentences_or_one_error(write_hub(folder, train=[row], validation=[row], names=None))


def test_text_that_is_not_utf_8_is_refused(tmp_path):
    folder = write_hub(tmp_path / "hub")
    column = pa.StringArray.from_buffers(1, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe"))
    table = pa.table({"sentence": column, "tokens": [["서", "울"]], "ner_tags": [["B-LC", "I-LC"]]})
    pq.write_table(table, folder / "ner" / "train-00000-of-00001.parquet")
    assert "UTF" in refusal(folder)


def test_hub_layout_keeps_guid_and_source(tmp_path):
    row = {**ROW, "guid": "g_1-nsmc", "source": "nsmc"}
    sentence = read(write_hub(tmp_path / "hub", train=[row], validation=[row | {"guid": "g_2-nsmc"}]))["train"][0]
    assert (sentence.id, sentence.source) == ("g_1-nsmc", "nsmc")


def test_a_change_of_the_files_is_read_and_not_what_a_folder_of_this_name_had_before(tmp_path):
    other = {"sentence": "<부산:LC>만", "tokens": ["부", "산", "만"], "ner_tags": [2, 3, 12]}
    assert read(write_hub(tmp_path / "corpus"))["train"][0].text == "서울에"
    shutil.rmtree(tmp_path / "corpus")
    assert read(write_hub(tmp_path / "corpus", [other]))["train"][0].text == "부산만"
    # `datasets` asks for the name of a folder only, not for its path.
    assert read(write_hub(tmp_path / "elsewhere/corpus"))["train"][0].text == "서울에"


@pytest.mark.parametrize("column", ["tokens", "ner_tags"])
def test_hub_layout_without_a_column_is_refused(tmp_path, column):
    message = refusal(write_hub(tmp_path / "hub", validation=[without(column)], train=[without(column)]))
    assert message.endswith(f"part 'train', has no column '{column}'")


def test_hub_layout_without_a_training_part_is_refused(tmp_path):
    message = refusal(write_hub(tmp_path / "hub", train=None))
    assert message.endswith("has no part 'train'; it has validation")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({**ROW, "ner_tags": [2, 3, 13]}, "train, row 1: train-00001: the tag '13'", id="no such id"),
        pytest.param({**ROW, "ner_tags": [2, 3]}, "train, row 1: train-00001: 2 tags for 3 characters", id="too few"),
        pytest.param({**ROW, "ner_tags": None}, "train, row 1: train-00001: ", id="null for tags"),
        pytest.param({**ROW, "ner_tags": [2, 3, None]}, "train, row 1: train-00001: ", id="null for a tag"),
    ],
)
def test_hub_layout_fault_names_part_and_row(tmp_path, row, message):
    assert refusal(write_hub(tmp_path / "hub", train=[ROW, row])).startswith(message)


def test_hub_layout_without_the_configuration_is_refused_in_one_sentence(tmp_path):
    message = refusal(write_hub(tmp_path / "hub"), config="nothing")
    assert "(configuration 'nothing') can't be read as a dataset" in message
    assert "\n" not in message
