import json

import pytest
from click.testing import CliRunner

from koner.cli.main import main
from tests.corpus.formats.files import DOCCANO, FILES, SENTENCES

ANSWERS = FILES["answers.jsonl"][0]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in.jsonl").write_text(DOCCANO, encoding="utf-8")
    return tmp_path / "in.jsonl"


def test_a_file_is_converted(tmp_path, source):
    result = run("convert", source, tmp_path / "out.txt", "--to", "inline")
    assert (result.exit_code, result.output) == (0, "train: 2 sentences\nunproven_offsets: 1\n")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == FILES["inline.txt"][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.txt"]


def test_a_folder_is_converted_part_by_part(tmp_path, source):
    (tmp_path / "corpus").mkdir()
    for name in ("train", "test"):
        (tmp_path / "corpus" / f"{name}.jsonl").write_text(DOCCANO, encoding="utf-8")
    result = run("convert", tmp_path / "corpus", tmp_path / "out", "--to", "klue")
    assert result.output == "train: 2 sentences\ntest: 2 sentences\nunproven_offsets: 2\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test.tsv", "train.tsv"]


def test_answers_of_the_tagger_are_converted(tmp_path):
    (tmp_path / "answers.jsonl").write_text(ANSWERS, encoding="utf-8")
    result = run("convert", tmp_path / "answers.jsonl", tmp_path / "out.jsonl", "--to", "doccano")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in rows] == [
        [[e.start, e.end, e.label] for e in entities] for _, entities in SENTENCES
    ]


def test_nothing_is_written_over_a_file_or_after_a_fault(tmp_path, source):
    assert "exists already" in str(run("convert", source, source, "--to", "inline").exception)
    source.write_text(DOCCANO + "{}\n", encoding="utf-8")
    result = run("convert", source, tmp_path / "out.txt", "--to", "inline")
    assert (result.exit_code, "in.jsonl:3: in-3: 'text' is null, not text" in str(result.exception)) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_inspect_prints_format_parts_types_and_examples(source):
    result = run("inspect", source)
    assert result.exit_code == 0
    assert result.output.splitlines()[:2] == ["format: doccano", "train: 2 sentences"]
    assert ["LC", "2", "서울,", "부산"] in [line.split() for line in result.output.splitlines()]


def test_inspect_reports_faults_after_what_can_be_read(source):
    source.write_text(DOCCANO + "{}\n", encoding="utf-8")
    result = run("inspect", source)
    assert result.exit_code == 1
    assert "train: 2 sentences" in result.stdout
    assert "faults: 1; the first of them:\n  in.jsonl:3: in-3: 'text' is null" in str(result.exception)


def test_inspect_lists_the_formats():
    result = run("inspect", "--formats")
    assert "label-studio-min   Label Studio's JSON-MIN export" in result.output
