import csv
import json

import pytest
from click.testing import CliRunner

from koner.cli.main import main

LINES = [
    "<서울:LC>에 갔다.",
    "<서울:LC>은 크다.",
    "나는 <서울:LC>이 좋다.",
    "<서울:OG>을 떠났다.",
    "< 부산:LC>에 갔다.",
]


def run(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return tmp_path / "in.txt"


def test_a_source_is_checked_without_a_model(tmp_path, source):
    result = run("check", source, tmp_path / "out", "--shown", "1")
    assert (result.exit_code, result.output) == (0, "2 candidates in 2 sentences: surface 1, white space 1\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.html", "candidates.csv", "tasks.json"]
    with (tmp_path / "out/candidates.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["check"], row["id"]) for row in csv.DictReader(file)] == [
            ("white space", "in-line-5"),
            ("surface", "in-line-4"),
        ]
    assert len(json.loads((tmp_path / "out/tasks.json").read_text(encoding="utf-8"))) == 1


def test_nothing_is_written_after_a_fault_or_over_a_folder(tmp_path, source):
    (tmp_path / "faulty.txt").write_text("<서울:O>에 갔다.\n", encoding="utf-8")
    assert run("check", tmp_path / "faulty.txt", tmp_path / "out").exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faulty.txt", "in.txt"]
    assert "exists already" in str(run("check", source, tmp_path).exception)


def test_corrections_of_a_checked_source_are_a_patch(tmp_path, source):
    source.write_text("\n".join(LINES[:4]) + "\n", encoding="utf-8")
    run("check", source, tmp_path / "out")
    (task,) = json.loads((tmp_path / "out/tasks.json").read_text(encoding="utf-8"))
    export = [{"id": 1, **task, "annotations": [{"id": 1, "result": task["predictions"][0]["result"]}]}]
    (tmp_path / "export.json").write_text(json.dumps(export), encoding="utf-8")
    arguments = "apply", tmp_path / "export.json", "--source", source, "--output", tmp_path / "c.patch"
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "c.patch").read_text(encoding="utf-8").splitlines()
    assert {"-<서울:OG>을 떠났다.", "+<서울:LC>을 떠났다."} <= set(lines)
    assert "exists already" in str(run(*arguments).exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "stages/audit is missing; run from the root of a checkout, or use `koner audit check SOURCE`"),
        (["apply", "nothing.json", "--source", "in.txt"], "nothing.json is missing"),
        (["apply", "in.txt", "--source", "in.txt"], "in.txt is not a JSON export of Label Studio"),
        (["apply", "in.txt", "--source", "nowhere"], "source: nowhere is no file or folder of text files"),
        (["apply", "in.txt"], "params.yaml is missing"),
    ],
)
def test_bad_input_is_one_sentence(source, arguments, message, monkeypatch):
    monkeypatch.chdir(source.parent)
    result = run(*arguments)
    assert (result.exit_code, message in str(result.exception)) == (1, True), result.exception
    assert [path.name for path in source.parent.iterdir()] == ["in.txt"]


def test_the_pipeline_must_have_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages/audit").mkdir(parents=True)
    (tmp_path / "stages/audit/dvc.yaml").touch()
    assert str(run().exception) == "koner: data/retagged/train.parquet is missing; run `dvc repro retag`"


@pytest.mark.parametrize("folds", ["4", "[1]", "[1, 1]", "[0, 1]", "[one, two]"])
def test_folds_are_a_list_of_different_numbers(tmp_path, monkeypatch, folds):
    monkeypatch.chdir(tmp_path)
    for path in ("stages/audit/dvc.yaml", "data/retagged/train.parquet"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    (tmp_path / "stages/audit/params.yaml").write_text(f"folds: {folds}\nshown: 5\n", encoding="utf-8")
    message = str(run().exception)
    assert message.startswith("koner: stages/audit/params.yaml: folds: ")
    assert message.endswith("it must be a list of different whole numbers from 1 to 1000, at least two, such as [1, 2]")
