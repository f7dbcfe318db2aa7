import os
import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.corpus import text_files
from koner.corpus.formats import klue_tsv as tsv
from koner.corpus.sources import watch_hint
from koner.labels.bio import Entity
from tests.corpus.reading import read, refusal
from tests.corpus.test_hub_dataset import write_hub

HEAD = "## 토큰, 레이블 구분자 : \\t\n## 문장 구분자 : \\n\\n\n## 주석 : ##\n## 컬럼명 : CHAR\tNE_TAG\n"
TRAIN_NAME, DEV_NAME = "klue-ner-v1.1_train.tsv", "klue-ner-v1.1_dev.tsv"
SEOUL = "## g_1-wikitree\t<서울:LC>에\n서\tB-LC\n울\tI-LC\n에\tO\n"
KIM = "## g_2-nsmc\t<김:PS> 짱\n김\tB-PS\n \tO\n짱\tO\n"


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
        pytest.param((HEAD + SEOUL + "\n" + KIM).replace("\n", "\r"), id="line ends of CR alone"),
        pytest.param("\ufeff" + HEAD + SEOUL + "\n" + KIM, id="byte order mark"),
        pytest.param("\ufeff" + SEOUL + "\n" + KIM, id="byte order mark before a sentence"),
        pytest.param(("\ufeff" + HEAD + SEOUL + "\n" + KIM).replace("\n", "\r\n"), id="byte order mark and CR LF"),
        pytest.param((HEAD + SEOUL + "\n" + KIM).replace("<서울:LC>", "서울"), id="sentence without marks"),
        pytest.param(
            unicodedata.normalize("NFD", HEAD + SEOUL) + "\n" + KIM, id="decomposed characters, each on its line"
        ),
        pytest.param(
            HEAD + SEOUL.replace("<서울:LC>에", unicodedata.normalize("NFD", "<서울:LC>에")) + "\n" + KIM,
            id="decomposed annotation",
        ),
    ],
)
def test_tsv_with_another_layout_is_read(tmp_path, content):
    texts = [sentence.text for sentence in read(write_tsv(tmp_path, train=content))["train"]]
    assert texts == ["서울에", "김 짱"]


ODD_LINES = ["", "", "가", "\t\tO", "\tO", "가\t나\tO", "##", "## g_3", "가\tO\r", "\r"]


@given(
    st.lists(st.sampled_from((HEAD + SEOUL + KIM).splitlines() + ODD_LINES)),
    st.sampled_from(["", "\n"]),
    st.integers(1, 40),
)
def test_tsv_is_read_equally_in_blocks_and_line_by_line(tmp_path_factory, lines, end, chunk):
    """The result depends neither on the chunks nor on the form of the lines."""
    path = tmp_path_factory.mktemp("tsv") / "part.tsv"
    path.write_bytes(("\n".join(lines) + end).encode())
    with pytest.MonkeyPatch.context() as patched:
        for module in (text_files, tsv):
            patched.setattr(module, "CHUNK", chunk)
        in_blocks = list(tsv.read_tsv(path))
        patched.setattr(tsv, "_parse_regular_block", lambda block, where: None)
        assert list(tsv.read_tsv(path)) == in_blocks
    reader = tsv._LineReader(path)
    one_by_one = [s for i, line in enumerate(lines, 1) for s in reader.add(i, line.rstrip("\r") + "\n")]
    assert in_blocks == [*one_by_one, *reader.end_sentence()]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param("## g_3-nsmc\t가\n가\n", "character 1 '가' has no tag", id="line without a tab"),
        pytest.param("## g_3-nsmc\t가나\n가나\tO\n", "token 1 is '가나', not one character", id="two characters"),
        pytest.param("## g_3-nsmc\t<가:XX>\n가\tXX\n", "the tag 'XX' on character 1 '가'", id="unknown tag"),
        pytest.param("## g_3-nsmc\t<가:PS>\n가\tI-PS\n", "continues no entity of its type", id="broken BIO"),
        pytest.param("## g_3-nsmc\t<가:PS>\n가\tO\n", "disagree on the entities", id="tags against annotation"),
        pytest.param("## g_3-nsmc\t나\n가\tO\n", "reads '나' but its characters spell '가'", id="other characters"),
        pytest.param("## g_3-nsmc\t가\n가\t0\n", "; write the letter O, not a zero", id="zero for O"),
        pytest.param("## g_3-nsmc\t가\n가\tO\n\tO\n", "token 2 is '', not one character", id="tag on a blank line"),
        pytest.param("## g_3-nsmc\t가\n가\tO\n \n", "character 2 ' ' has no tag", id="line of a space"),
        pytest.param(SEOUL, "the id is used already at klue-ner-v1.1_train.tsv:5", id="guid of another sentence"),
    ],
)
def test_tsv_fault_names_file_and_line(tmp_path, fault, message):
    # Four lines of comments, four of the first sentence and a blank one precede the second sentence, on line 10.
    error = refusal(write_tsv(tmp_path, train=f"{HEAD}{SEOUL}\n{fault}"))
    assert error.startswith(f"{TRAIN_NAME}:10: g_")
    assert message in error
    assert "\n" not in error


def test_a_text_keeps_its_nul_and_its_line_separators(tmp_path):
    text = "가\0\x0c\u2028나"
    block = f"## g_3-nsmc\t{text}\n" + "".join(f"{character}\tO\n" for character in text)
    assert read(write_tsv(tmp_path, train=HEAD + block))["train"][0].text == text


def test_a_long_text_is_quoted_around_the_fault(tmp_path):
    text = "가" * 100_000
    block = f"## g_3-nsmc\t{text}나\n" + "".join(f"{character}\tO\n" for character in f"{text}다")
    message = refusal(write_tsv(tmp_path, train=HEAD + block))
    assert "가나' but its characters spell" in message
    assert message.endswith("they differ at character 100001")
    assert len(message) < 400


def test_tsv_fault_of_tags_without_a_head_line_names_the_line(tmp_path):
    assert refusal(write_tsv(tmp_path, train=f"{HEAD}{SEOUL}\n가\tXX\n")).startswith(f"{TRAIN_NAME}:10: ")


def test_faults_of_all_sentences_and_parts_are_reported_in_one_run(tmp_path):
    message = refusal(
        write_tsv(
            tmp_path,
            train=f"{HEAD}## g_3-nsmc\t가\n가\tXX\n\n{SEOUL}\n## g_4-nsmc\t나\n나\tX\n",
            dev=f"{HEAD}## g_5-nsmc\t다\n다\tI-PS\n",
        )
    )
    assert message.startswith("3 faults in the source:")
    assert f"{TRAIN_NAME}:5: g_3-nsmc: the tag 'XX'" in message
    assert f"{TRAIN_NAME}:13: g_4-nsmc: the tag 'X'" in message
    assert f"{DEV_NAME}:5: g_5-nsmc: tag 'I-PS'" in message


def test_a_byte_that_is_not_utf_8_is_named_by_file_line_and_place(tmp_path):
    message = refusal(write_tsv(tmp_path, train=HEAD.encode() + b"## g_3-nsmc\t\xff\n"))
    assert message.endswith(f"{TRAIN_NAME}:5: byte 13 of the line is not UTF-8")


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", f"{TRAIN_NAME} is UTF-16, not UTF-8 text; convert it to UTF-8"),
        (
            "cp949",
            f"{TRAIN_NAME}:1: byte 4 of the line is not UTF-8; it may be CP949: set `encoding` to cp949, or convert "
            "it to UTF-8",
        ),
    ],
)
def test_another_encoding_is_named(tmp_path, encoding, message):
    assert refusal(write_tsv(tmp_path, train=(HEAD + SEOUL).encode(encoding))).endswith(message)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({"train": None}, "has no training part; it has validation", id="no train"),
        pytest.param({"train": ""}, "the part 'train' has no sentence", id="empty file"),
        pytest.param({"dev": HEAD}, "the part 'validation' has no sentence", id="nothing but the head"),
    ],
)
def test_tsv_part_that_is_missing_or_empty_is_named(tmp_path, files, message):
    assert message in refusal(write_tsv(tmp_path, **files))


def test_a_sentence_that_an_older_file_of_the_part_repeats_is_named(tmp_path):
    write_tsv(tmp_path)
    (tmp_path / "train-old.tsv").write_text(SEOUL, encoding="utf-8")
    assert refusal(tmp_path) == f"train-old.tsv:1: g_1-wikitree: the id is used already at {TRAIN_NAME}:5"


@pytest.mark.parametrize(
    "source", ["./nowhere", "no where", "a/b/c", "/nowhere/at/all", "~no-such-user/x", "a/b/" + "c" * 300]
)
def test_unknown_source_is_refused(source):
    assert refusal(source) == (
        f"source: there is no file or folder {source}, and it is not of the form of a hub dataset's id"
    )


def test_a_single_file_is_the_training_part(tmp_path):
    write_tsv(tmp_path)
    assert {part: [s.text for s in sentences] for part, sentences in read(tmp_path / DEV_NAME).items()} == {
        "train": ["김 짱"]
    }


def test_an_empty_folder_is_refused_in_one_sentence(tmp_path):
    message = refusal(tmp_path)
    assert message.startswith(f"source: {tmp_path}")
    assert "\n" not in message


def read_in_a_process(root, source, **variables):
    """Read a source in a process that has no cache of the hub's, and whose hub can't be reached."""
    program = (
        "import sys; from koner.errors import exit_on_error; from koner.corpus.sources import read_source\n"
        "with exit_on_error(): print(len(list(read_source(sys.argv[1], 'ner', None)['train'])))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HOME", "XDG_CACHE_HOME")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", **variables}
    return subprocess.run(
        [sys.executable, "-c", program, source], cwd=root, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_folder_is_read_without_a_writable_home(root, tmp_path):
    (tmp_path / "temporary").mkdir()
    folder = write_hub(tmp_path / "hub")
    process = read_in_a_process(root, str(folder), HOME="/dev/null/home", TMPDIR=str(tmp_path / "temporary"))
    assert (process.returncode, process.stdout) == (0, "1\n"), process.stderr
    assert os.listdir(tmp_path / "temporary") == []


def test_a_cache_of_the_hub_that_cannot_be_written_is_named(root):
    process = read_in_a_process(root, "klue/klue", HOME="/dev/null/home")
    (line,) = process.stderr.splitlines()
    assert line.startswith("koner: source: the cache of the hub can't be written, so klue/klue can't be downloaded (")
    assert "/dev/null/home" in line
    assert line.endswith("Not a directory); set HF_HOME (it is in HOME by default) to a folder that can be written")


def test_an_unreachable_hub_is_reported_in_one_sentence_within_seconds(root, tmp_path):
    start = time.monotonic()
    process = read_in_a_process(root, "klue/klue", HOME=str(tmp_path))
    assert time.monotonic() - start < 30
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("koner: source: the hub can't be reached for klue/klue (")
    assert line.endswith("or run `koner recipe sample`")


@pytest.mark.parametrize(("watched", "has_hint"), [("corpus", False), ("corpus/../corpus", False), ("other", True)])
def test_a_folder_that_dvc_does_not_watch_gets_a_hint(tmp_path, watched, has_hint):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "other").mkdir()
    hint = watch_hint(str(tmp_path / "corpus"), str(tmp_path / watched))
    assert (hint is not None) == has_hint


def test_the_hint_names_a_path_that_dvc_can_read(tmp_path, monkeypatch):
    """DVC does not expand `~`."""
    (tmp_path / "corpus").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"set `watch` to {tmp_path}/corpus, so" in watch_hint("~/corpus", "koner/resources/sample")
    assert f"set `watch` to {tmp_path}/corpus, so" in watch_hint("~/corpus", "~/corpus")
    assert watch_hint("~/corpus", str(tmp_path / "corpus")) is None


@pytest.mark.parametrize("source", ["sample", "klue/klue"])
def test_a_source_that_is_not_a_local_folder_gets_no_hint(source):
    assert watch_hint(source, "koner/resources/sample") is None


@pytest.fixture(scope="module")
def real_tsv(shared):
    return read(shared / "klue-ner" / "tsv")


def test_real_tsv_and_hub_folder_give_the_same_sentences(shared, real_tsv):
    hub = read(shared / "klue-ner" / "hub")
    for part, count in (("train", 3200), ("validation", 800)):
        from_hub, from_tsv = (
            sorted((sentence.text, sentence.tags, sentence.entities) for sentence in parts[part])
            for parts in (hub, real_tsv)
        )
        assert len(from_hub) == count
        assert from_hub == from_tsv


def test_real_guids_contain_the_genre(real_tsv):
    for sentences in real_tsv.values():
        assert {sentence.source for sentence in sentences} == {"nsmc", "wikitree"}
        assert all(sentence.id.endswith(f"-{sentence.source}") for sentence in sentences)
