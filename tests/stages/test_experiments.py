"""Many experiments by the commands that users type: a grid in DVC's queue, and a sweep."""

import csv
import json
import re
import shlex
import shutil
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from tests.stages.typed_commands import metrics, read_params, run, set_params

# Two jobs share a machine: with a thread for each core, each would slow down the other.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
SPEED = ["-S", "batch_size=4", "-S", "epochs=5", "-S", "patience=0"]


def processes(folder):
    """Return the processes in a folder, the workers of DVC's queue and their children, with folder and command."""
    commands = {}
    for process in psutil.process_iter():
        try:
            working_folder = process.cwd()
            if working_folder.startswith(str(folder)):
                commands[process] = (working_folder, process.cmdline())
        except psutil.Error:
            continue
    return commands


@contextmanager
def two_workers(folder):
    """Start two queue workers, which outlive the command, and stop them at the end."""
    try:
        # The workers inherit the streams of the command: with a pipe, `run` would wait for the workers to end.
        run(folder, "sh", "-c", "dvc queue start -j 2 >.dvc/tmp/started 2>&1", **ONE_THREAD)
        assert "Started '2'" in (folder / ".dvc/tmp/started").read_text()
        yield
    finally:
        try:
            # Without workers, the command would wait for the next ones.
            if processes(folder):
                run(folder, "dvc", "queue", "stop", "--kill")
        finally:
            _, alive = psutil.wait_procs(processes(folder), timeout=60)
            for process in alive:
                process.kill()


def wait_for_queue(folder):
    """Wait for all tasks of the queue; return the state of each, and the most folders in which stages ran at once."""
    most_folders = 0
    deadline = time.monotonic() + 900
    while True:
        states = re.findall(r"grid-\d .* (\w+)$", run(folder, "dvc", "queue", "status"), re.MULTILINE)
        if not {"Running", "Queued"} & set(states):
            return states, most_folders
        # A call of DVC takes a second of CPU time, which slows down the experiments.
        for _ in range(10):
            assert time.monotonic() < deadline
            folders = {
                path for path, command in processes(folder).values() if any("stages." in word for word in command)
            }
            most_folders = max(most_folders, len(folders))
            time.sleep(0.5)


def test_a_grid_runs_two_at_a_time_and_its_best_experiment_is_compared_with_main(clone):
    run(clone, "dvc", "exp", "run", "--queue", "--name", "grid", *SPEED, "-S", "lr=1e-5,1e-2,2e-3")
    with two_workers(clone):
        states, most_folders = wait_for_queue(clone)
    assert states == ["Success"] * 3
    assert most_folders == 2
    assert run(clone, "git", "status", "--porcelain") == ""
    assert not list((clone / ".dvc/tmp/exps").glob("tmp*"))

    columns = ["--drop", ".*", "--keep", r"Experiment|span\.f1$|params\.yaml:lr$"]
    table = run(clone, "dvc", "exp", "show", "--csv", *columns, "--sort-by", "span.f1", "--sort-order", "desc")
    rows = [row for row in csv.DictReader(table.splitlines()) if row["Experiment"].startswith("grid-")]
    scores = [float(row["span.f1"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    assert {float(row["params.yaml:lr"]) for row in rows} == {1e-5, 1e-2, 2e-3}

    best = rows[0]["Experiment"]
    compared = json.loads(run(clone, "koner", "compare", "main", best, "--json"))
    assert compared["sentences"] == 30
    assert compared["figures"]["span.f1"]["a"] == pytest.approx(metrics(clone, "evaluate")["span"]["f1"], abs=1e-6)
    assert compared["figures"]["span.f1"]["b"] == pytest.approx(scores[0], abs=1e-5)

    run(clone, "dvc", "exp", "apply", best)
    assert read_params(clone)["lr"] == metrics(clone, "train")["lr"] == float(rows[0]["params.yaml:lr"])
    check_differences(clone)
    run(clone, "git", "checkout", "--", ".")
    run(clone, "dvc", "checkout")


def check_differences(folder):
    """Check that DVC and koner show how the experiment in the workspace differs from the last commit."""
    changes = json.loads(run(folder, "dvc", "metrics", "diff", "--json"))
    lr = changes["metrics/train.json"]["lr"]
    assert (lr["old"], lr["new"]) == (0.001, read_params(folder)["lr"])
    assert "span" in run(folder, "dvc", "metrics", "diff")
    compared = json.loads(run(folder, "koner", "compare", "main", "workspace", "--json"))
    assert compared["sentences"] == 30
    assert compared["figures"]["span.f1"]["b"] == pytest.approx(metrics(folder, "evaluate")["span"]["f1"], abs=1e-6)
    plots = run(folder, "dvc", "plots", "diff", "HEAD", "--out", "diff")
    page = next(word for word in plots.split() if word.startswith("file://"))
    assert page.endswith("index.html")
    assert "workspace" in (folder / "diff" / "index.html").read_text()
    shutil.rmtree(folder / "diff")


SWEEP = """\
study: small
trials: 3
startup_trials: 2
warmup_epochs: 0
seed: 1
search:
  lr: {low: 1e-3, high: 3e-2, log: true}
  batch_size: {choices: [2, 4]}
"""


def test_a_sweep_prints_the_command_that_repeats_its_best_trial(clone):
    set_params(clone, epochs=3)
    (clone / "sweep.yaml").write_text(SWEEP)
    output = run(clone, sys.executable, "-m", "stages.sweep")
    assert len(re.findall(r"sweep: trial \d: lr=", output)) == 3
    best = float(re.search(r"with F1 ([\d.]+) on development:", output)[1])
    assert best > 0
    again = run(clone, sys.executable, "-m", "stages.sweep")
    command = output.splitlines()[-1]
    assert again.splitlines()[-1] == command
    assert not re.search(r"sweep: trial \d: lr=", again)
    assert sorted(path.suffix for path in (clone / "sweeps/small").iterdir() if path.suffix != ".lock") == [".db"]

    run(clone, *shlex.split(command), "train")
    assert metrics(clone, "train")["best"]["f1"] == pytest.approx(best, abs=1e-4)
    assert metrics(clone, "train")["epochs"] == 3
    run(clone, "git", "checkout", "--", ".")
    run(clone, "dvc", "checkout")
    shutil.rmtree(clone / "sweeps")


@pytest.mark.parametrize(
    ("changes", "replacements", "message"),
    [
        ({}, {"lr: {low: 1e-3": "lr: {low: 1"}, "koner: sweep.yaml: search.lr: low, 1.0, is above high, 0.03"),
        (
            {"vocab_min_count": 1},
            {},
            "koner: models/base and data/split are missing or out of date (prepare); run `dvc repro split`",
        ),
    ],
)
def test_a_mistake_ends_a_sweep_with_one_sentence(clone, changes, replacements, message):
    set_params(clone, **changes)
    text = SWEEP
    for old, new in replacements.items():
        text = text.replace(old, new)
    (clone / "sweep.yaml").write_text(text)
    output = run(clone, sys.executable, "-m", "stages.sweep", fails=True)
    assert message in output
    assert "Traceback" not in output
    run(clone, "git", "checkout", "--", ".")
    shutil.rmtree(clone / "sweeps", ignore_errors=True)
