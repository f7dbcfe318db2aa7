import json
import os
import subprocess
import sys
import time

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner import sources
from koner.errors import KonerError
from koner.labels import TAGS, Entity
from koner.sources import read_checked, read_source, watch_hint

HEAD = "## 토큰, 레이블 구분자 : \\t\n## 문장 구분자 : \\n\\n\n## 주석 : ##\n## 컬럼명 : CHAR\tNE_TAG\n"
TRAIN_NAME, DEV_NAME = "klue-ner-v1.1_train.tsv", "klue-ner-v1.1_dev.tsv"
SEOUL = "## g_1-wikitree\t<서울:LC>에\n서\tB-LC\n울\tI-LC\n에\tO\n"
KIM = "## g_2-nsmc\t<김:PS> 짱\n김\tB-PS\n \tO\n짱\tO\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def read(source, config="ner"):
    return read_checked(read_source(str(source), config, None))


def refusal(source, config="ner"):
    with pytest.raises(KonerError) as told:
        read(source, config)
    return str(told.value)


def write_tsv(folder, train=HEAD + SEOUL, dev=HEAD + KIM):
    for name, content in ((TRAIN_NAME, train), (DEV_NAME, dev)):
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_tsv_gives_sentences_with_id_and_genre(tmp_path):
    parts = read(write_tsv(tmp_path, train=HEAD + SEOUL + "\n" + KIM))
    first, second = parts["train"]
    assert (first.id, first.text, first.source) == ("g_1-wikitree", "서울에", "wikitree")
    assert first.tags == ("B-LC", "I-LC", "O")
    assert first.entities == (Entity(0, 2, "LC"),)
    assert (second.id, second.text, second.source) == ("g_2-nsmc", "김 짱", "nsmc")
    assert [sentence.id for sentence in parts["validation"]] == ["g_2-nsmc"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HEAD + SEOUL + "\n" + KIM + "\n", id="blank line at the end"),
        pytest.param(HEAD + SEOUL + "\n\n\n" + KIM, id="several blank lines"),
        pytest.param(HEAD + SEOUL + KIM, id="no blank line between"),
        pytest.param((HEAD + SEOUL + "\n" + KIM).replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param((HEAD + SEOUL + "\n" + KIM).rstrip("\n"), id="no line end at the end"),
        pytest.param(SEOUL + "\n" + KIM, id="no head"),
    ],
)
def test_tsv_may_be_laid_out_in_other_ways(tmp_path, content):
    texts = [sentence.text for sentence in read(write_tsv(tmp_path, train=content))["train"]]
    assert texts == ["서울에", "김 짱"]


ODD_LINES = ["", "", "가", "\t\tO", "\tO", "가\t나\tO", "##", "## g_3", "가\tO\r", "\r"]


@given(
    st.lists(st.sampled_from((HEAD + SEOUL + KIM).splitlines() + ODD_LINES)),
    st.sampled_from(["", "\n"]),
    st.integers(1, 40),
)
def test_tsv_is_read_alike_in_blocks_and_line_by_line(tmp_path_factory, lines, end, chunk):
    """However the file is cut into pieces, and whatever its lines."""
    path = tmp_path_factory.mktemp("tsv") / "part.tsv"
    path.write_bytes(("\n".join(lines) + end).encode())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sources, "_CHUNK", chunk)
        in_blocks = list(sources._read_tsv(path))
        patched.setattr(sources, "_usual", lambda block, where: None)
        assert list(sources._read_tsv(path)) == in_blocks
    begun = sources._Begun(path)
    one_by_one = [s for i, line in enumerate(lines, 1) for s in begun.add(i, line.rstrip("\r") + "\n")]
    assert in_blocks == [*one_by_one, *begun.end()]


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        pytest.param("## g_3-nsmc\t가\n가\n", "unknown tag '(none)' on character 1 '가'", id="line without a tab"),
        pytest.param("## g_3-nsmc\t가나\n가나\tO\n", "token 1 is '가나', not one character", id="two characters"),
        pytest.param("## g_3-nsmc\t<가:XX>\n가\tB-XX\n", "unknown tag 'B-XX' on character 1 '가'", id="unknown tag"),
        pytest.param("## g_3-nsmc\t<가:PS>\n가\tI-PS\n", "continues no entity of its type", id="broken BIO"),
        pytest.param("## g_3-nsmc\t<가:PS>\n가\tO\n", "disagree on the entities", id="tags against annotation"),
        pytest.param("## g_3-nsmc\t나\n가\tO\n", "reads '나' but its characters spell '가'", id="other characters"),
        pytest.param(SEOUL, "the id stands already at klue-ner-v1.1_train.tsv:5", id="guid of another sentence"),
    ],
)
def test_tsv_fault_names_file_and_line(tmp_path, fault, what):
    # Four lines of head, four of the first sentence, a blank one: the second sentence begins on line 10.
    message = refusal(write_tsv(tmp_path, train=f"{HEAD}{SEOUL}\n{fault}"))
    assert message.startswith(f"{TRAIN_NAME}:10: g_")
    assert what in message
    assert "\n" not in message


def test_tsv_fault_of_tags_without_a_head_line_names_the_line(tmp_path):
    assert refusal(write_tsv(tmp_path, train=f"{HEAD}{SEOUL}\n가\tB-XX\n")).startswith(f"{TRAIN_NAME}:10: ")


def test_faults_of_all_sentences_and_parts_are_told_in_one_run(tmp_path):
    message = refusal(
        write_tsv(
            tmp_path,
            train=f"{HEAD}## g_3-nsmc\t가\n가\tB-XX\n\n{SEOUL}\n## g_4-nsmc\t나\n나\tX\n",
            dev=f"{HEAD}## g_5-nsmc\t다\n다\tI-PS\n",
        )
    )
    assert message.startswith("3 faults in the source:")
    assert f"{TRAIN_NAME}:5: g_3-nsmc: unknown tag 'B-XX'" in message
    assert f"{TRAIN_NAME}:13: g_4-nsmc: unknown tag 'X'" in message
    assert f"{DEV_NAME}:5: g_5-nsmc: tag 'I-PS'" in message


def test_a_byte_that_is_not_utf_8_is_named_by_file_line_and_place(tmp_path):
    message = refusal(write_tsv(tmp_path, train=HEAD.encode() + b"## g_3-nsmc\t\xff\n"))
    assert message.endswith(f"{TRAIN_NAME}:5: byte 13 of the line is not UTF-8")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        pytest.param({"dev": None}, "must hold exactly one validation file (*.tsv); found none", id="no validation"),
        pytest.param({"train": None}, "must hold exactly one train file (*.tsv); found none", id="no train"),
        pytest.param({"train": ""}, "the part 'train' has no sentence", id="empty file"),
        pytest.param({"dev": HEAD}, "the part 'validation' has no sentence", id="nothing but the head"),
    ],
)
def test_tsv_part_that_is_missing_or_empty_is_named(tmp_path, files, what):
    assert what in refusal(write_tsv(tmp_path, **files))


def test_two_tsv_files_of_one_part_are_named(tmp_path):
    write_tsv(tmp_path)
    (tmp_path / "train-old.tsv").write_text(SEOUL, encoding="utf-8")
    assert f"found {TRAIN_NAME}, train-old.tsv" in refusal(tmp_path)


ROW = {"sentence": "<서울:LC>에", "tokens": ["서", "울", "에"], "ner_tags": [2, 3, 12]}


def write_hub(folder, train=(ROW,), validation=(ROW,), names=None):
    """Writes Parquet in the hub's layout; `names` are the tag names that the files give their class ids."""
    (folder / "ner").mkdir(parents=True)
    lines = ["---", "configs:", "- config_name: ner", "  data_files:"]
    for part, rows in (("train", train), ("validation", validation)):
        if rows is None:
            continue
        lines += [f"  - split: {part}", f"    path: ner/{part}-*"]
        table = pa.Table.from_pylist(list(rows))
        if names:
            string = {"dtype": "string", "_type": "Value"}
            features = {
                "sentence": string,
                "tokens": {"feature": string, "_type": "List"},
                "ner_tags": {"feature": {"names": list(names), "_type": "ClassLabel"}, "_type": "List"},
            }
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / "ner" / f"{part}-00000-of-00001.parquet")
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return folder


def without(column):
    return {name: value for name, value in ROW.items() if name != column}


@pytest.mark.parametrize(
    ("row", "names"),
    [
        pytest.param(ROW, None, id="bare class ids"),
        pytest.param(ROW, TAGS, id="class ids with names"),
        pytest.param({**ROW, "ner_tags": [2, 1, 0]}, ("O", "I-LC", "B-LC"), id="names in an order of their own"),
        pytest.param({**ROW, "ner_tags": ["B-LC", "I-LC", "O"]}, None, id="tags spelt out"),
        pytest.param(without("sentence"), None, id="no annotated sentence"),
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


def test_hub_layout_keeps_guid_and_source(tmp_path):
    row = {**ROW, "guid": "g_1-nsmc", "source": "nsmc"}
    sentence = read(write_hub(tmp_path / "hub", train=[row], validation=[row | {"guid": "g_2-nsmc"}]))["train"][0]
    assert (sentence.id, sentence.source) == ("g_1-nsmc", "nsmc")


@pytest.mark.parametrize("column", ["tokens", "ner_tags"])
def test_hub_layout_without_a_column_is_refused(tmp_path, column):
    message = refusal(write_hub(tmp_path / "hub", validation=[without(column)], train=[without(column)]))
    assert message.endswith(f"part 'train', has no column '{column}'")


def test_hub_layout_without_a_part_is_refused(tmp_path):
    message = refusal(write_hub(tmp_path / "hub", validation=None))
    assert message.endswith("has no part 'validation'; it has train")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        pytest.param({**ROW, "ner_tags": [2, 3, 13]}, "train, row 1: train-00001: unknown tag '13'", id="no such id"),
        pytest.param({**ROW, "ner_tags": [2, 3]}, "train, row 1: train-00001: 2 tags for 3 characters", id="too few"),
        pytest.param({**ROW, "ner_tags": None}, "train, row 1: train-00001: ", id="null for tags"),
        pytest.param({**ROW, "ner_tags": [2, 3, None]}, "train, row 1: train-00001: ", id="null for a tag"),
    ],
)
def test_hub_layout_fault_names_part_and_row(tmp_path, row, what):
    assert refusal(write_hub(tmp_path / "hub", train=[ROW, row])).startswith(what)


def test_hub_layout_without_the_configuration_is_refused_in_one_sentence(tmp_path):
    message = refusal(write_hub(tmp_path / "hub"), config="nothing")
    assert "(configuration 'nothing') can't be read as a dataset" in message
    assert "\n" not in message


@pytest.mark.parametrize("source", ["./nowhere", "no where", "a/b/c", "/nowhere/at/all"])
def test_unknown_source_is_refused(source):
    assert refusal(source) == (f"source: there is no folder {source}, and it is not of the form of a hub dataset's id")


def test_a_file_for_a_folder_is_refused(tmp_path):
    write_tsv(tmp_path)
    message = refusal(tmp_path / TRAIN_NAME)
    assert message.endswith("is a file; give the folder that holds the train and validation files")


def test_an_empty_folder_is_refused_in_one_sentence(tmp_path):
    message = refusal(tmp_path)
    assert message.startswith(f"source: {tmp_path}")
    assert "\n" not in message


def test_a_hub_out_of_reach_is_told_in_one_sentence_within_seconds(root):
    program = (
        "from koner.errors import told_plainly; from koner.sources import read_source\n"
        "with told_plainly(): read_source('klue/klue', 'ner', None)"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True, timeout=120
    )
    assert time.monotonic() - start < 30
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("koner: source: the hub can't be reached for klue/klue (")
    assert line.endswith("or run `koner recipe sample`")


@pytest.mark.parametrize(("watched", "hinted"), [("corpus", False), ("corpus/../corpus", False), ("other", True)])
def test_a_folder_that_dvc_does_not_watch_is_told(tmp_path, watched, hinted):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "other").mkdir()
    hint = watch_hint(str(tmp_path / "corpus"), str(tmp_path / watched))
    assert (hint is not None) == hinted


@pytest.mark.parametrize("source", ["sample", "klue/klue"])
def test_what_is_no_local_folder_needs_no_watching(source):
    assert watch_hint(source, "koner/sample") is None


@pytest.fixture(scope="module")
def real_tsv(shared):
    return read(shared / "klue-ner" / "tsv")


def test_real_tsv_and_hub_folder_give_the_same_sentences(shared, real_tsv):
    hub = read(shared / "klue-ner" / "hub")
    for part, count in (("train", 3200), ("validation", 800)):
        found, wanted = (
            sorted((sentence.text, sentence.tags, sentence.entities) for sentence in parts[part])
            for parts in (hub, real_tsv)
        )
        assert len(found) == count
        assert found == wanted


def test_real_guids_tell_the_genre(real_tsv):
    for sentences in real_tsv.values():
        assert {sentence.source for sentence in sentences} == {"nsmc", "wikitree"}
        assert all(sentence.id.endswith(f"-{sentence.source}") for sentence in sentences)
