"""`koner select` as users run it, with its worker processes."""

import json

import pytest
from click.testing import CliRunner

from koner.cli.main import main
from koner.inference.tagger import Tagger
from koner.release.hashing import folder_hash
from koner.selection.candidates import find_candidates
from tests.inference.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다.", "😀 <정부:OG>는 왔다."]
POOL = [
    "홍길동은 서울에 갔다.",
    "",
    "😀 정부는 왔다.",
    "홍길동은  서울에 갔다.",
    "R&D에 3명 왔다.",
    "정부는 서울에 갔다.",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


def select(model, *arguments):
    options = ["--model", str(model), "--device", "cpu", "--workers", "1"]
    return CliRunner().invoke(main, ["select", *map(str, arguments), *options])


def message(result):
    """Return the only message of a command that failed; the test runner prints it on standard output."""
    assert result.exit_code == 1
    [line] = result.stdout.splitlines()
    return line.removeprefix("koner: ")


def write_jsonl(path, texts):
    path.write_text("".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts)), "utf-8")
    return path


def test_the_most_uncertain_texts_become_tasks_with_predictions(model, tmp_path):
    path = write_jsonl(tmp_path / "pool.jsonl", POOL)
    with path.open("a") as file:
        file.write("{wrong\n")
    output = tmp_path / "tasks.json"
    result = select(model, path, "--budget", 2, "--output", output)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("2 chosen from 7 rows, 1 blank, 1 rejected (the first: ")
    assert "pool.jsonl, row 7: not JSON" in last
    assert last.endswith("), 1 repeated")
    tasks = json.loads(output.read_text(encoding="utf-8"))
    tagger = Tagger.load(model, "cpu")
    texts = [POOL[i] for i in (0, 2, 4, 5)]
    expected = max(find_candidates(tagger, texts), key=lambda c: c.uncertainty / c.tokens**0.5)
    assert (len(tasks), tasks[0]["data"]) == (2, {"text": expected.text})
    [prediction] = tasks[0]["predictions"]
    assert prediction["model_version"] == f"koner {folder_hash(model)[:8]}"
    spans = [(r["value"]["start"], r["value"]["end"], *r["value"]["labels"]) for r in prediction["result"]]
    assert spans == [(e.start, e.end, e.label) for e in tagger.tag(expected.text)]


def test_json_lines_are_a_source_of_koner(model, tmp_path):
    (tmp_path / "pool.txt").write_text("\n".join(POOL), encoding="utf-8")
    result = select(model, tmp_path / "pool.txt", "--budget", 4, "--format", "jsonl")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {row["text"] for row in rows} == {POOL[i] for i in (0, 2, 4, 5)}
    assert all(0 < row["score"] <= 1 for row in rows)
    path = tmp_path / "tasks.jsonl"
    path.write_text(result.stdout, encoding="utf-8")
    inspected = CliRunner().invoke(main, ["inspect", str(path)])
    assert inspected.output.startswith("format: doccano\ntrain: 4 sentences\n")
    # What is annotated already is not chosen again.
    again = select(model, tmp_path / "pool.txt", "--budget", 1, "--annotated", path)
    assert message(again) == (
        "--budget: 1 is more than the 0 texts to choose from: 6 rows, 1 blank, 5 annotated already"
    )


def test_faults_are_one_sentence_and_nothing_is_written(model, tmp_path):
    pool, blank = write_jsonl(tmp_path / "pool.jsonl", POOL), write_jsonl(tmp_path / "blank.jsonl", ["", " "])
    empty = tmp_path / "empty.txt"
    empty.touch()
    output = tmp_path / "tasks.json"
    cases = [
        ([pool, "--budget", 5], "--budget: 5 is more than the 4 texts to choose from: 6 rows, 1 blank, 1 repeated"),
        ([blank, "--budget", 1], "--budget: 1 is more than the 0 texts to choose from: 2 rows, 2 blank"),
        ([empty, "--budget", 1], f"file://{empty} has no rows"),
        ([tmp_path / "none.txt", "--budget", 1], "can't be read: the file or folder does not exist"),
        ([pool, "--budget", 1, "--column", "body"], "has a field 'body'; they have text, id (choose by --column)"),
        ([pool, "--budget", 1, "--annotated", tmp_path / "none"], f"there is no file or folder {tmp_path / 'none'}"),
    ]
    for arguments, expected in cases:
        assert expected in message(select(model, *arguments, "--output", output))
        assert not output.exists()
    output.write_text("[]")
    refused = select(model, pool, "--budget", 1, "--output", output)
    assert message(refused) == f"{output} exists already; name a new file"
    assert output.read_text() == "[]"
