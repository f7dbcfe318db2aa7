import codecs
import functools
import html
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from koner.answers import OFFSETS, answer
from koner.cli import main
from koner.corpus import parse_inline
from koner.decoding import ScoredEntity
from koner.errors import KonerError
from koner.labels import TYPES
from koner.params import RECIPES
from koner.tag_formats import as_inline, as_table
from koner.tagger import Tagger
from koner.text_lines import line_chunks
from tests.table_model import write_model

MARKED = [
    "<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.",
    "",
    "<R&D:OG>에 <3명:QT> 😀 <a> 왔다.",
    "<정부:OG>는 <오후 2시:TI>에 왔다.",
]
TEXTS = [parse_inline(line)[0] for line in MARKED]
SEOUL = "홍길동은 서울에서 살았다."
FOUND = [ScoredEntity(0, 3, "PS", 0.99984), ScoredEntity(5, 7, "LC", 0.5)]


@pytest.fixture(scope="module", autouse=True)
def no_gpu():
    """There is no PyTorch model in the folder, which a GPU would be given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("koner.runtime._has_cuda", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that looks each character's tag up, as sure of it as its number in the vocabulary says."""
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


@pytest.fixture(scope="module")
def tagged(folder):
    """What the model finds in TEXTS."""
    return [t.entities for t in Tagger.load(folder).tag_all(TEXTS)]


@pytest.fixture
def koner(folder):
    """Runs `koner tag` over the tiny model."""
    return lambda *arguments, **more: CliRunner().invoke(main, ["tag", "--model", str(folder), *arguments], **more)


def objects(ended):
    assert (ended.exit_code, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.split("\n")[:-1]]


def start(folder, *arguments, **streams):
    command = [sys.executable, "-c", "from koner.cli import main; main()", "tag", "--model", str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    # What a shell starts in the background, and all that comes of it, ignores Ctrl-C.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, env=environment, preexec_fn=listen, **streams)


def test_an_answer_is_what_the_service_gives():
    assert answer(SEOUL, FOUND) == {
        "input": SEOUL,
        "result": [
            {"entity_group": "PS", "score": 0.99984, "word": "홍길동", "start": 0, "end": 3},
            {"entity_group": "LC", "score": 0.5, "word": "서울", "start": 5, "end": 7},
        ],
    }


def test_an_answer_holds_the_entities_chosen_and_scores_of_six_decimals():
    third = [ScoredEntity(0, 3, "PS", 1 / 3)]
    assert [e["score"] for e in answer(SEOUL, third)["result"]] == [0.333333]
    assert [e["word"] for e in answer(SEOUL, FOUND, min_score=0.5)["result"]] == ["홍길동", "서울"]
    assert [e["word"] for e in answer(SEOUL, FOUND, min_score=0.51)["result"]] == ["홍길동"]
    assert [e["word"] for e in answer(SEOUL, FOUND, labels=["LC"])["result"]] == ["서울"]
    assert answer(SEOUL, FOUND, labels=[])["result"] == []


@given(st.text(st.sampled_from("가a😀𠮷\u0301\n"), min_size=1), st.data())
def test_utf16_offsets_cut_the_word_out_of_the_utf16_text(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    entity = ScoredEntity(start, data.draw(st.integers(start + 1, len(text))), "PS", 1.0)
    found = answer(text, [entity], offsets="utf16")["result"][0]
    units = text.encode("utf-16-le")
    assert units[2 * found["start"] : 2 * found["end"]].decode("utf-16-le") == found["word"]


@given(st.text(st.sampled_from("가b<>&;:#10LCamplt\r\n\\") | st.characters(exclude_categories=["Cs"])), st.data())
def test_inline_marks_and_text_are_read_back_whatever_the_text_holds(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    written = as_inline(text, [ScoredEntity(a, b, data.draw(st.sampled_from(TYPES)), 1.0) for a, b in spans])
    assert written.endswith("\n")
    assert not re.search("[\r\n]", written[:-1])
    plain, entities = parse_inline(written[:-1])
    assert [html.unescape(plain[e.start : e.end]) for e in entities] == [text[a:b] for a, b in spans]
    position, between = 0, ""
    for e in entities:
        between += html.unescape(plain[position : e.start]) + html.unescape(plain[e.start : e.end])
        position = e.end
    assert between + html.unescape(plain[position:]) == text


def test_inline_is_the_form_of_klue_where_a_text_has_no_brackets():
    assert as_inline(SEOUL, FOUND) == "<홍길동:PS>은 <서울:LC>에서 살았다.\n"
    assert as_inline("R&D 투자", [ScoredEntity(0, 3, "OG", 1.0)]) == "<R&D:OG> 투자\n"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_columns_of_a_table_stand_under_one_another(form):
    words = ["홍길동", "Bob", "ＫＢＳ", "é", "👩‍👩‍👧"]
    text = unicodedata.normalize(form, " ".join(words))
    entities, position = [], 0
    for word in text.split(" "):
        entities.append(ScoredEntity(position, position + len(word), "PS", 0.98765))
        position += len(word) + 1
    head, *lines = as_table(text, entities, "codepoint", 7).rstrip("\n").split("\n")
    assert head == f"7: {text}"
    assert lines[0].split() == ["word", "type", "score", "start", "end"]
    assert [line.split() for line in lines[2:]] == [
        [text[e.start : e.end], "PS", "0.988", str(e.start), str(e.end)] for e in entities
    ]
    assert len({wcswidth(line[: line.index("PS")]) for line in lines[2:]}) == 1
    assert len({wcswidth(line) for line in lines}) == 1


def test_a_table_shows_control_characters_instead_of_sending_them():
    shown = as_table("\x1b[2J\n가\u2028", [ScoredEntity(0, 6, "OG", 1.0)], "codepoint", 1)
    assert shown.startswith("1: \\x1b[2J\\n가\\u2028\n")
    assert "\x1b" not in shown


def test_texts_of_the_command_line_give_the_answers_of_the_library(koner, tagged):
    assert objects(koner("--format", "jsonl", *TEXTS)) == [
        answer(text, entities) for text, entities in zip(TEXTS, tagged, strict=True)
    ]


def test_json_keeps_hangul_as_it_is(koner):
    assert f'"input": "{TEXTS[0]}"' in koner("--format", "jsonl", TEXTS[0]).stdout


def test_choosing_and_offsets_reach_every_format(koner, tagged):
    every = [answer(t, e, labels=["LC", "OG"]) for t, e in zip(TEXTS, tagged, strict=True)]
    assert objects(koner("--format", "jsonl", "--label", "LC", "--label", "OG", *TEXTS)) == every
    text, entities = TEXTS[3], tagged[3]
    _, surest = sorted(entities, key=lambda e: e.score)
    chosen = ["--min-score", str(surest.score), "😀" + text]
    moved = [ScoredEntity(surest.start + 1, surest.end + 1, surest.label, surest.score)]
    assert koner("--format", "inline", *chosen).stdout == as_inline("😀" + text, moved)
    for offsets in OFFSETS:
        arguments = ["--offsets", offsets, *chosen]
        assert objects(koner("--format", "jsonl", *arguments)) == [answer("😀" + text, moved, offsets=offsets)]
        assert koner(*arguments).stdout == as_table("😀" + text, moved, offsets, 1)


def test_inline_gives_the_marks_back(koner):
    ended = koner("--format", "inline", *TEXTS)
    assert ended.stdout.splitlines() == [line.replace("<a>", "&lt;a&gt;") for line in MARKED]


def test_the_table_is_what_is_printed_unless_told_otherwise(koner, tagged):
    ended = koner(*TEXTS)
    tables = [as_table(t, e, "codepoint", n) for n, (t, e) in enumerate(zip(TEXTS, tagged, strict=True), start=1)]
    assert (ended.stdout, ended.exit_code) == ("".join(tables), 0)
    assert "2: \nno entities\n\n" in ended.stdout


def test_every_line_of_every_file_has_its_result_in_order(koner, tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "둘째.txt"
    first.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(TEXTS).encode())
    second.write_bytes("\n\n가\u2028나\n".encode())
    ended = koner("--format", "jsonl", "-f", str(first), "-f", "-", "-f", str(second), input="사이\n")
    assert [found["input"] for found in objects(ended)] == [*TEXTS, "사이", "", "", "가\u2028나"]


def test_standard_input_is_read_where_neither_a_text_nor_a_file_is_given(koner):
    assert [found["input"] for found in objects(koner("--format", "jsonl", input="가\n\n나"))] == ["가", "", "나"]


def test_the_lines_before_a_wrong_byte_are_tagged_and_its_place_is_told(koner, tmp_path):
    path = tmp_path / "wrong.txt"
    path.write_bytes("가\n나\n".encode() + "다".encode("cp949") + b"\n" + "라\n".encode())
    ended = koner("--format", "jsonl", "-f", str(path))
    *before, told = ended.output.splitlines()
    assert [json.loads(line)["input"] for line in before] == ["가", "나"]
    assert (ended.exit_code, told) == (1, f"koner: {path}:3: byte 1 of the line is not UTF-8")


def test_a_file_that_is_not_there_is_told_before_any_text_is_tagged(koner, tmp_path):
    missing = tmp_path / "none.txt"
    ended = koner("가", "-f", str(missing))
    told = f"koner: {missing} can't be read: No such file or directory\n"
    assert (ended.exit_code, ended.output) == (1, told)
    assert koner("-f", str(tmp_path)).output == f"koner: {tmp_path} can't be read: Is a directory\n"


def test_an_argument_that_is_not_utf8_is_told(koner):
    ended = koner("가", os.fsdecode(b"\xb0\xa1"))
    assert (ended.exit_code, ended.output) == (1, "koner: TEXT 2 is not UTF-8\n")


def test_a_model_that_is_not_there_is_told(tmp_path):
    ended = CliRunner().invoke(main, ["tag", "--model", str(tmp_path / "none"), "가"])
    assert ended.exit_code == 1
    assert re.fullmatch(r"koner: .*none holds no model; run `dvc repro`.*\n", ended.output)


class Slow:
    """A stream that gives its blocks one by one, and notes how many were asked for."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.asked = 0

    def read1(self, size):
        self.asked += 1
        return self.blocks[self.asked - 1]


def test_lines_are_given_as_soon_as_they_have_come():
    stream = Slow(["가\n나".encode(), b"\n", b"\xeb\x8b", b"\xa4\n", b""])
    chunks = line_chunks(stream, "slow")
    assert (next(chunks), stream.asked) == (["가"], 1)
    assert (next(chunks), stream.asked) == (["나"], 2)
    assert list(chunks) == [["다"]]


def test_no_more_of_a_large_file_is_held_than_a_chunk():
    stream = io.BytesIO("가나다라마바사\n".encode() * 100_000)
    next(line_chunks(stream, "large"))
    assert stream.tell() < 100_000


@given(st.lists(st.binary(max_size=5).filter(bool)))
def test_lines_do_not_hang_on_where_a_stream_is_cut(blocks):
    lines = b"".join(blocks).removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    sound = list(itertools.takewhile(is_utf8, lines))
    found, told = [], ""
    try:
        for chunk in line_chunks(Slow([*blocks, b""]), "cut"):
            found += chunk
    except KonerError as error:
        told = str(error)
    assert [text.encode() for text in found] == [line.removesuffix(b"\r") for line in sound]
    assert told.partition(": byte ")[0] == ("" if sound == lines else f"cut:{len(sound) + 1}")


def is_utf8(line):
    try:
        return line.decode() is not None
    except UnicodeDecodeError:
        return False


def test_a_pipe_gets_each_answer_at_once_and_ctrl_c_ends_without_a_word(folder):
    process = start(folder, "--format", "jsonl", stdin=subprocess.PIPE)
    for text in (TEXTS[0], ""):
        process.stdin.write(f"{text}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["input"] == text
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 130


def test_a_reader_that_has_seen_enough_ends_it_without_a_word(folder, tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("서울에서 부산으로 갔다.\n" * 5_000, encoding="utf-8")
    process = start(folder, "--format", "jsonl", "-f", str(path))
    assert json.loads(process.stdout.readline())["input"] == "서울에서 부산으로 갔다."
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_in_a_sentence(folder):
    with open("/dev/full", "wb") as full:
        process = start(folder, "가", stdout=full)
        assert process.stderr.read() == b"koner: the results can't be written: No space left on device\n"
    assert process.wait(timeout=60) != 0


def test_the_command_starts_without_what_only_a_model_needs():
    slow = {"app", "numpy", "onnxruntime", "pyarrow", "pydantic", "torch", "transformers"}
    code = f"import sys, koner.cli; print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_the_help_names_every_recipe():
    assert f"[{'|'.join(RECIPES)}]" in CliRunner().invoke(main, ["recipe", "--help"]).output


def test_serve_becomes_the_service_with_what_was_given_in_its_environment(monkeypatch):
    became = []
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call))
    monkeypatch.setenv("WORKERS", "3")
    monkeypatch.delenv("HOST", raising=False)
    assert CliRunner().invoke(main, ["serve", "--port", "0", "--workers", "2"]).exit_code == 0
    [(program, command, environment)] = became
    assert (program, command) == (sys.executable, [sys.executable, "-m", "app"])
    assert environment == os.environ | {"PORT": "0", "WORKERS": "2"}
