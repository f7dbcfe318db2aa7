import json

import pytest
from click.testing import CliRunner

from koner.cli.main import main
from tests.corpus.formats.files import DOCCANO, FILES, task


def run(*arguments):
    return CliRunner().invoke(main, ["agree", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jsonl").write_text(DOCCANO, encoding="utf-8")
    # The answers of `koner tag --format jsonl`, with one type changed.
    answers = FILES["answers.jsonl"][0].replace('"LC"', '"OG"', 1)
    (tmp_path / "b.jsonl").write_text(answers, encoding="utf-8")
    annotations = [[task(i, completed_by=person)["annotations"][0] for person in (3, 4)] for i in range(2)]
    annotations[0][1] = {**annotations[0][1], "id": 2, "result": []}
    tasks = [{**task(i), "annotations": annotations[i]} for i in range(2)]
    (tmp_path / "two.json").write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    return tmp_path


def test_an_annotation_is_compared_with_predictions(folder):
    result = run(folder / "a.jsonl", folder / "b.jsonl", "--output", folder / "out.json")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[:3] == ["A: a.jsonl", "B: b.jsonl", "2 texts in both, 1 of them with equal annotations"]
    assert lines[4].startswith("F1 of exact spans and types: 0.7500 (")
    rows = [line.split() for line in lines]
    assert ["LC", "2", "1", "1"] in [row[:4] for row in rows]
    assert lines[-1].endswith("out.json: 1 tasks with two predictions each")


def test_disagreements_are_tasks_with_two_predictions(folder):
    run(folder / "a.jsonl", folder / "b.jsonl", "--output", folder / "out.json")
    (written,) = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert [p["model_version"] for p in written["predictions"]] == ["A: a.jsonl", "B: b.jsonl"]
    labels = [[region["value"]["labels"] for region in p["result"]] for p in written["predictions"]]
    assert labels == [[["LC"], ["PS"]], [["OG"], ["PS"]]]


def test_two_people_in_one_export_are_compared(folder):
    both = folder / "two.json", folder / "two.json"
    result = run(*both, "--annotator-a", "3", "--annotator-b", "4")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[:2] == [f"A: {folder / 'two.json'}, 3", f"B: {folder / 'two.json'}, 4"]
    assert "F1 of exact spans and types: 0.6667" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two.json", "a.jsonl"], r"two.json: task 1 has annotations of several people (3, 4); name the person whose"),
        (["a.jsonl", "two.json", "--annotator-b", "5"], "two.json has no annotation of 5; it has those of 3, 4"),
        (["a.jsonl", "b.jsonl", "--annotator-a", "3"], "a.jsonl is not a JSON export of Label Studio"),
        (["a.jsonl", "other.txt"], "no text is in both"),
        (["a.jsonl", "b.jsonl", "--output", "a.jsonl"], "a.jsonl exists already; name a new file"),
    ],
)
def test_bad_input_is_one_sentence(folder, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "other.txt").write_text("<대구:LC>에 갔다.\n", encoding="utf-8")
    before = sorted(folder.iterdir())
    result = run(*arguments)
    assert (result.exit_code, message in str(result.exception)) == (1, True), result.exception
    assert sorted(folder.iterdir()) == before
