"""The audit by the commands that users type: real DVC in a temporary clone, with two folds of a small corpus."""

import csv
import json
import shutil
import sys

import pytest

from tests.stages.typed_commands import commit, run, set_params

pytest.importorskip("cleanlab")


def koner(folder, *arguments, **options):
    """Run the `koner` command with the code of the clone."""
    return run(folder, sys.executable, "-c", "from koner.cli.main import main; main()", *arguments, **options)


@pytest.fixture(scope="module")
def audited(clone, tmp_path_factory):
    """A clone after an audit that was interrupted after the first fold; and what the second run printed."""
    folder = tmp_path_factory.mktemp("audit") / "koner"
    shutil.copytree(clone, folder, symlinks=True)
    set_params(folder / "stages/audit", folds=[1, 2], shown=5)
    run(folder / "stages/audit", "dvc", "repro", "fold@1")
    return folder, koner(folder, "audit")


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_fold_is_not_trained_again(audited):
    _, output = audited
    assert "Stage 'fold@1' didn't change, skipping" in output
    assert "Running stage 'fold@2'" in output


def test_candidates_are_written_as_table_page_and_tasks(audited):
    folder, output = audited
    stages = folder / "stages/audit"
    figures = json.loads((stages / "metrics.json").read_text())
    rows = read_csv(stages / "candidates.csv")
    assert figures["sentences"] == 80
    assert len(rows) == figures["candidates"] > 0
    assert f"{len(rows):,} candidates in {figures['doubtful_sentences']:,} sentences" in output
    tasks = json.loads((stages / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["id"] for task in tasks] == list(dict.fromkeys(row["id"] for row in rows))[:5]
    assert (stages / "audit.html").read_text(encoding="utf-8").count('<li class="card">') == 5
    assert not list(stages.glob("fold-*"))


def test_nothing_reruns_and_git_tracks_only_small_files(audited):
    folder, _ = audited
    assert "Running stage" not in koner(folder, "audit")
    commit(folder, "an audit")
    tracked = run(folder / "stages/audit", "git", "ls-files").split()
    assert {"dvc.lock", "metrics.json"} < set(tracked)
    assert not [name for name in tracked if name.startswith(("data", "checkpoints", "tasks", "candidates"))]
    assert "audit" not in run(folder, "dvc", "stage", "list", "--all", "--name-only")


def test_corrections_come_back_as_a_patch_once(audited):
    folder, _ = audited
    task = json.loads((folder / "stages/audit/tasks.json").read_text(encoding="utf-8"))[0]
    suggestion = task["predictions"][0]["result"]
    export = [{"id": 1, **task, "annotations": [{"id": 1, "completed_by": 1, "result": suggestion}]}]
    (folder / "export.json").write_text(json.dumps(export), encoding="utf-8")
    assert "1 sentences in 1 files are corrected" in koner(folder, "audit", "apply", "export.json")
    run(folder, "git", "apply", "corrections.patch")
    assert run(folder, "git", "diff", "--name-only", "small").split() == ["small/klue-ner-v1.1_train.tsv"]
    (folder / "corrections.patch").unlink()
    assert koner(folder, "audit", "apply", "export.json") == "no annotation was corrected; no patch is written\n"


def test_more_folds_than_sentences_of_a_type_are_one_sentence(audited):
    folder, _ = audited
    set_params(folder / "stages/audit", folds=list(range(1, 81)))
    assert "koner: folds: 80 is not allowed: the type " in koner(folder, "audit", fails=True)
