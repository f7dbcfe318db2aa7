"""Stages beside each other, stages whose DVC is killed, and stages in an environment that is not the project's."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from koner.training.checkpoints import last_checkpoint
from tests.stages.typed_commands import run, set_params, user_environment

LONG = {"epochs": 100_000, "patience": 0}


@contextmanager
def started(folder, *command, **variables):
    """Start a command in a session of its own, and kill what is left of it at the end."""
    with (folder / ".dvc/tmp/output").open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=user_environment(**variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def session(number):
    """Return the processes of a session by their ids, with their commands."""
    listing = subprocess.run(
        ["ps", "-o", "pid=,stat=,args=", "-s", str(number)], capture_output=True, text=True, check=False
    )
    rows = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    return {int(pid): command for pid, state, command in rows if not state.startswith("Z")}


def wait_until(condition):
    # A busy machine is no error.
    deadline = time.monotonic() + 600
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value


def wait_for_checkpoint(folder):
    wait_until(lambda: list(folder.glob("models/checkpoints/*/checkpoint-*/trainer_state.json")))


@pytest.fixture
def long_training(clone):
    """The clone, with a training that does not end by itself, and without checkpoints of others."""
    run(clone, "rm", "-rf", "models/checkpoints")
    set_params(clone, **LONG)
    yield clone
    run(clone, "git", "checkout", "--", ".")
    run(clone, "rm", "-rf", "models/checkpoints")
    run(clone, "dvc", "checkout")


def test_a_stage_ends_when_dvc_is_killed_and_the_next_run_resumes(long_training):
    # Debian's `sh` stays between DVC and the stage; `bash` replaces itself by the command that it is given.
    with started(long_training, "dvc", "repro", "train", SHELL="/bin/sh") as dvc:
        wait_for_checkpoint(long_training)
        kill_and_wait_for_stage(dvc)
    (run_folder,) = long_training.glob("models/checkpoints/*")
    # The kill may have left a later one that is incomplete.
    checkpoint = last_checkpoint(run_folder)
    with started(long_training, "dvc", "repro", "train", SHELL="/bin/bash") as dvc:
        output = long_training / ".dvc/tmp/output"
        resumed = wait_until(lambda: re.search(r"train: resuming from \S+/(checkpoint-\d+)", output.read_text()))
        assert resumed[1] == checkpoint.name
        kill_and_wait_for_stage(dvc)


def kill_and_wait_for_stage(dvc):
    """Kill the DVC that runs the stage train, and wait until the stage has ended, too."""
    assert any("-m stages.train" in command for command in session(dvc.pid).values())
    dvc.kill()
    dvc.wait()
    wait_until(lambda: not session(dvc.pid))


def test_a_stage_ends_when_dvc_is_killed_while_it_still_imports(long_training):
    with started(long_training, "dvc", "repro", "train", SHELL="/bin/sh") as dvc:
        wait_until(lambda: watching_stages(dvc))
        assert not list(long_training.glob("models/checkpoints/*"))
        dvc.kill()
        dvc.wait()
        wait_until(lambda: not session(dvc.pid))


def watching_stages(dvc):
    """Return the processes of the stage train that have started the thread which watches DVC."""
    stages = [
        pid for pid, command in session(dvc.pid).items() if command.endswith("-m stages.train") and "-c" not in command
    ]
    return [pid for pid in stages if len(os.listdir(f"/proc/{pid}/task")) > 1]


def test_two_stages_do_not_run_in_one_folder(long_training, tmp_path):
    with started(long_training, sys.executable, "-m", "stages.train") as training:
        wait_for_checkpoint(long_training)
        for module in ("retag", "sweep"):
            output = run(long_training, sys.executable, "-m", f"stages.{module}", fails=True)
            (line,) = [line for line in output.splitlines() if line.startswith("koner: ")]
            assert line == (
                "koner: another stage or sweep runs in this folder (process "
                f"{training.pid}, `{sys.executable} -m stages.train`); wait until it has ended, or end it, and run the "
                "command again"
            )
            assert "Traceback" not in output
        # Other workspaces, such as those of DVC's experiments, are free.
        run(tmp_path, "git", "clone", "--quiet", str(long_training), "other")
        refused = run(tmp_path / "other", sys.executable, "-m", "stages.retag", fails=True)
        assert "another stage" not in refused
        training.kill()
        training.wait()
        run(long_training, sys.executable, "-m", "stages.split")


def test_several_sweeps_share_a_folder_with_each_other_but_with_no_stage(clone):
    plan = "study: s\ntrials: 9\nstartup_trials: 9\nwarmup_epochs: 0\nseed: 1\nsearch: {lr: {low: 1e-4, high: 1e-2}}\n"
    set_params(clone, **LONG)
    (clone / "sweep.yaml").write_text(plan)
    with (
        started(clone, sys.executable, "-m", "stages.sweep", OMP_NUM_THREADS="1"),
        started(clone, sys.executable, "-m", "stages.sweep", OMP_NUM_THREADS="1"),
    ):
        wait_until(lambda: len({path.parent for path in clone.glob("sweeps/s/trial-*/*/checkpoint-*")}) == 2)
        refused = run(clone, sys.executable, "-m", "stages.prepare", fails=True)
        assert "koner: another stage or sweep runs in this folder (process " in refused
    run(clone, "rm", "-rf", "sweeps")
    run(clone, "git", "checkout", "--", ".")


@pytest.mark.parametrize(
    ("module", "missing"),
    [("prepare", "pyarrow"), ("train", "pydantic"), ("sweep", "dvc"), ("pretrain.pack", "pydantic")],
)
def test_another_python_is_named(clone_without_outputs, module, missing):
    # Without site-packages, as the system's Python.
    command = [sys.executable, "-S", "-m", f"stages.{module}"]
    output = run(clone_without_outputs, *command, fails=True)
    assert output == (
        f"koner: {sys.executable} has no module '{missing}'; activate the project's environment "
        "(`source .venv/bin/activate`; `make setup` creates it) and try again\n"
    )


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 0)])
def test_an_old_python_is_named(clone_without_outputs, version):
    name = ".".join(map(str, version))
    program = (
        f"import runpy, sys; sys.version_info = {version}; sys.version = '{name} (main)';"
        "runpy.run_module('stages.prepare', run_name='__main__')"
    )
    output = run(clone_without_outputs, sys.executable, "-c", program, fails=True)
    assert output.startswith(f"koner: {sys.executable} is Python {name}, and 3.11 is needed; activate ")
    assert output.count("\n") == 1


def test_the_first_file_of_a_stage_has_no_syntax_that_an_old_python_lacks(root):
    source = (root / "stages/__init__.py").read_text(encoding="utf-8")
    assert source.isascii()
    # f-strings, annotations and `from __future__ import annotations` would be syntax errors in one version or another.
    assert not re.search(r"\bf[\"']|->|__future__|print ", source)


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "cp949"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
    ids=["cp949", "C"],
)
def test_a_stage_prints_on_a_console_without_all_characters(clone, variables):
    set_params(clone, source="./없음😀")
    output = run(clone, sys.executable, "-m", "stages.prepare", fails=True, encoding="cp949", **variables)
    assert "Traceback" not in output
    assert "there is no file or folder ./" in output
    assert "\\U0001f600" in output
    run(clone, "git", "checkout", "--", ".")
