import functools
import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import pytest
from click.testing import CliRunner

from koner.annotation.label_studio import name_version, task
from koner.cli.formats import format_inline, format_table
from koner.cli.main import main
from koner.corpus.inline import parse_inline
from koner.inference.answers import build_answer
from koner.inference.decoding import ScoredEntity
from koner.inference.offsets import OFFSET_UNITS
from koner.inference.tagger import Tagger
from koner.release.hashing import folder_hash
from tests.inference.table_model import write_model

MARKED = [
    "<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.",
    "",
    "<R&D:OG>에 <3명:QT> 😀 <a> 왔다.",
    "<정부:OG>는 <오후 2시:TI>에 왔다.",
]
TEXTS = [parse_inline(line)[0] for line in MARKED]


@pytest.fixture(scope="module", autouse=True)
def no_gpu():
    """Hide the GPU: the folder has no PyTorch model, which a GPU needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("koner.hardware.has_cuda", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that looks up the tag of each character."""
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


@pytest.fixture(scope="module")
def tagged(folder):
    """The entities of each of TEXTS."""
    return [t.entities for t in Tagger.load(folder).tag_all(TEXTS)]


@pytest.fixture
def koner(folder):
    """Run `koner tag` with the tiny model."""
    return lambda *arguments, **more: CliRunner().invoke(main, ["tag", "--model", str(folder), *arguments], **more)


def parse_answers(completed):
    assert (completed.exit_code, completed.stderr) == (0, "")
    return [json.loads(line) for line in completed.stdout.split("\n")[:-1]]


def start(folder, *arguments, environment=None, **streams):
    command = [
        sys.executable,
        "-c",
        "from koner.cli.main import main; main()",
        "tag",
        "--model",
        str(folder),
        *arguments,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    # A process that a shell starts in the background ignores Ctrl-C, and so do its children.
    restore_interrupt = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, env=environment, **{"preexec_fn": restore_interrupt} | streams)


def test_texts_of_the_command_line_have_the_answers_of_the_library(koner, tagged):
    assert parse_answers(koner("--format", "jsonl", *TEXTS)) == [
        build_answer(text, entities).model_dump() for text, entities in zip(TEXTS, tagged, strict=True)
    ]


def test_json_keeps_hangul_as_it_is(koner):
    assert f'"input": "{TEXTS[0]}"' in koner("--format", "jsonl", TEXTS[0]).stdout


def test_selection_and_offsets_apply_to_every_format(koner, tagged):
    expected = [build_answer(t, e, labels=["LC", "OG"]).model_dump() for t, e in zip(TEXTS, tagged, strict=True)]
    assert parse_answers(koner("--format", "jsonl", "--label", "LC", "--label", "OG", *TEXTS)) == expected
    text, entities = TEXTS[3], tagged[3]
    _, best = sorted(entities, key=lambda e: e.score)
    selection = ["--min-score", str(best.score), "😀" + text]
    moved = [ScoredEntity(best.start + 1, best.end + 1, best.label, best.score)]
    assert koner("--format", "inline", *selection).stdout == format_inline("😀" + text, moved)
    for offsets in OFFSET_UNITS:
        arguments = ["--offsets", offsets, *selection]
        expected = build_answer("😀" + text, moved, offsets=offsets).model_dump()
        assert parse_answers(koner("--format", "jsonl", *arguments)) == [expected]
        assert koner(*arguments).stdout == format_table("😀" + text, moved, offsets, 1)


def test_inline_marks_the_entities(koner):
    completed = koner("--format", "inline", *TEXTS)
    assert completed.stdout.splitlines() == [line.replace("<a>", "&lt;a&gt;") for line in MARKED]


def test_tasks_of_label_studio_have_the_entities_and_the_model(koner, folder, tagged):
    version = name_version(folder_hash(folder))
    expected = [task(text, entities, model_version=version) for text, entities in zip(TEXTS, tagged, strict=True)]
    completed = koner("--format", "label-studio", *TEXTS)
    assert (completed.exit_code, completed.stderr) == (0, "")
    assert json.loads(completed.stdout) == expected
    assert "홍길동" in completed.stdout
    assert koner("--format", "label-studio", input="").stdout == "[\n\n]\n"


def test_tasks_follow_a_labelling_config(koner, tmp_path):
    config = tmp_path / "config.xml"
    tags = '<Labels name="ner" toName="t"><Label value="LC"/><Label value="X"/></Labels><Text name="t" value="$body"/>'
    config.write_text(f"<View>{tags}</View>", encoding="utf-8")
    completed = koner("--format", "label-studio", "--label-config", str(config), TEXTS[0])
    (made,) = json.loads(completed.stdout)
    assert made["data"] == {"body": TEXTS[0]}
    (region,) = made["predictions"][0]["result"]
    assert (region["from_name"], region["to_name"], region["value"]["labels"]) == ("ner", "t", ["LC"])
    assert completed.stderr == (
        f"koner: {config}: the labelling config lacks the model's labels DT, OG, PS, QT, TI, which are left out; "
        "the model never predicts the labels X of the labelling config\n"
    )
    config.write_text("<View/>", encoding="utf-8")
    completed = koner("--format", "label-studio", "--label-config", str(config), TEXTS[0])
    assert completed.exit_code == 1
    assert completed.output.startswith(f"koner: {config}: the labelling config has no text tag")
    completed = koner("--format", "label-studio", "--label-config", str(tmp_path / "none"), TEXTS[0])
    assert completed.output == f"koner: {tmp_path}/none can't be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--format", "label-studio", "--offsets", "utf16", "가"],
            "takes no --offsets: Label Studio counts code points",
        ),
        (["--label-config", "config.xml", "가"], "--label-config needs --format label-studio"),
        (["--format", "label-studio", "--engine", "local", "in", "out"], "--engine takes INPUT and OUTPUT"),
        (["--label-config", "config.xml", "--engine", "local", "in", "out"], "--engine takes INPUT and OUTPUT"),
    ],
)
def test_options_that_exclude_each_other_are_refused(koner, arguments, sentence):
    completed = koner(*arguments)
    assert (completed.exit_code, completed.stdout) == (2, "")
    assert sentence in completed.stderr


def test_the_default_format_is_the_table(koner, tagged):
    completed = koner(*TEXTS)
    tables = [format_table(t, e, "codepoint", n) for n, (t, e) in enumerate(zip(TEXTS, tagged, strict=True), start=1)]
    assert (completed.stdout, completed.exit_code) == ("".join(tables), 0)
    assert "2: \nno entities\n\n" in completed.stdout


def test_every_line_of_every_file_has_its_result_in_order(koner, tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "둘째.txt"
    first.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(TEXTS).encode())
    second.write_bytes("\n\n가\u2028나\n".encode())
    completed = koner("--format", "jsonl", "-f", str(first), "-f", "-", "-f", str(second), input="사이\n")
    assert [answer["input"] for answer in parse_answers(completed)] == [*TEXTS, "사이", "", "", "가\u2028나"]


def test_standard_input_is_read_without_a_text_or_file(koner):
    assert [answer["input"] for answer in parse_answers(koner("--format", "jsonl", input="가\n\n나"))] == [
        "가",
        "",
        "나",
    ]


def test_the_lines_before_an_invalid_byte_are_tagged_and_its_position_is_reported(koner, tmp_path):
    path = tmp_path / "wrong.txt"
    path.write_bytes("가\n나\n".encode() + "다".encode("cp949") + b"\n" + "라\n".encode())
    completed = koner("--format", "jsonl", "-f", str(path))
    *before, message = completed.output.splitlines()
    assert [json.loads(line)["input"] for line in before] == ["가", "나"]
    assert (completed.exit_code, message) == (1, f"koner: {path}:3: byte 1 of the line is not UTF-8")


def test_a_missing_file_is_reported_before_any_text_is_tagged(koner, tmp_path):
    missing = tmp_path / "none.txt"
    completed = koner("가", "-f", str(missing))
    message = f"koner: {missing} can't be read: No such file or directory\n"
    assert (completed.exit_code, completed.output) == (1, message)
    assert koner("-f", str(tmp_path)).output == f"koner: {tmp_path} can't be read: Is a directory\n"


def test_an_argument_that_is_not_utf8_is_reported(koner):
    completed = koner("가", os.fsdecode(b"\xb0\xa1"))
    assert (completed.exit_code, completed.output) == (1, "koner: TEXT 2 is not UTF-8\n")


def test_hangul_on_the_command_line_is_read_in_the_locale_c(folder):
    """Python decodes arguments as ASCII there, and turns all bytes of Hangul into lone surrogates."""
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = start(folder, "--format", "jsonl", TEXTS[0], environment=environment)
    output, errors = process.communicate(timeout=60)
    assert (json.loads(output)["input"], errors) == (TEXTS[0], b"")


@pytest.mark.parametrize("score", ["nan", "-nan", "inf", "1.5"])
def test_a_score_that_is_no_number_from_0_to_1_is_refused(koner, score):
    completed = koner("--min-score", score, "가")
    assert completed.exit_code == 2
    assert "Invalid value for '--min-score'" in completed.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs /proc")
def test_a_file_that_cannot_be_read_is_reported(koner):
    assert koner("-f", "/proc/self/mem").output == "koner: /proc/self/mem can't be read: Input/output error\n"


@pytest.mark.parametrize(
    ("descriptor", "arguments", "message"),
    [
        (0, [], "standard input can't be read: it is closed"),
        (1, ["가"], "the results can't be written: standard output is closed"),
    ],
)
def test_a_closed_stream_is_reported(folder, descriptor, arguments, message):
    process = start(folder, *arguments, preexec_fn=functools.partial(os.close, descriptor), stdin=None)
    assert (process.communicate(timeout=60)[1].decode(), process.returncode) == (f"koner: {message}\n", 1)


def test_an_archive_is_no_file_of_texts(koner, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "가\n")
    completed = koner("-f", str(tmp_path / "a.zip"))
    assert completed.output == f"koner: {tmp_path}/a.zip is a zip archive, not UTF-8 text; unpack it\n"


def test_a_path_of_a_model_that_is_too_long_is_reported():
    for more, sentence in (
        ([], "aaa/config.json can't be read: File name too long\n"),
        (["--engine", "local", "in.txt"], "aaa holds no model; run `dvc repro` or `dvc pull`\n"),
    ):
        completed = CliRunner().invoke(main, ["tag", "--model", "a" * 5000, *more, "가"])
        assert completed.output.endswith(sentence)


def test_a_missing_model_is_reported(tmp_path):
    completed = CliRunner().invoke(main, ["tag", "--model", str(tmp_path / "none"), "가"])
    assert completed.exit_code == 1
    assert re.fullmatch(r"koner: .*none holds no model; run `dvc repro`.*\n", completed.output)


def test_each_answer_is_piped_at_once_and_ctrl_c_ends_silently(folder):
    process = start(folder, "--format", "jsonl", stdin=subprocess.PIPE)
    for text in (TEXTS[0], ""):
        process.stdin.write(f"{text}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["input"] == text
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 130


def test_a_closed_pipe_ends_the_command_silently(folder, tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("서울에서 부산으로 갔다.\n" * 5_000, encoding="utf-8")
    process = start(folder, "--format", "jsonl", "-f", str(path))
    assert json.loads(process.stdout.readline())["input"] == "서울에서 부산으로 갔다."
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_reported_in_a_sentence(folder):
    with open("/dev/full", "wb") as full:
        process = start(folder, "가", stdout=full)
        assert process.stderr.read() == b"koner: the results can't be written: No space left on device\n"
    assert process.wait(timeout=60) != 0
