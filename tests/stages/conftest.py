"""Projects in which real DVC runs the pipeline."""

import os
import shutil

import pytest
from filelock import FileLock

from tests.environments import build_wheel, make_environment
from tests.stages.typed_commands import SMALL, commit, copy_project, run, set_params, tsv


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that makes a folder once for all test processes: the first makes it, and the others wait for it."""
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent

    def make(name, function):
        folder = common / name
        with FileLock(common / f"{name}.lock"):
            if not (folder / "done").exists():
                # Of a process that failed.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                function(folder)
                (folder / "done").touch()
        return folder

    return make


@pytest.fixture(scope="session")
def train_environment(root, made_once):
    """The PATH of an environment that holds what `pip install 'koner[train]'` installs from the wheel."""
    folder = made_once("train", lambda folder: make_environment(build_wheel(root, folder), folder / "venv", "train"))
    return f"{folder / 'venv/bin'}:/usr/bin:/bin"


@pytest.fixture(scope="session")
def clone(root, made_once, tmp_path_factory, train_environment):
    """A clone of the working tree with small parameters after a run that was committed; a test leaves it unchanged.

    Each test process has a copy of its own of the one that was run.
    """
    made = made_once("run", lambda folder: run_pipeline(root, folder / "koner", train_environment))
    folder = tmp_path_factory.mktemp("clone") / "koner"
    shutil.copytree(made / "koner", folder, symlinks=True)
    return folder


def run_pipeline(root, folder, train_environment):
    """Run the pipeline in a new clone on a small corpus, and commit the run."""
    copy_project(root, folder)
    corpus = folder / "small"
    corpus.mkdir()
    for part, name, count in (("train", "train", 80), ("validation", "dev", 30)):
        lines = (root / "koner/resources/sample" / f"{part}.news.txt").read_text(encoding="utf-8").splitlines()[:count]
        (corpus / f"klue-ner-v1.1_{name}.tsv").write_text(tsv(lines, f"small_{name}"), encoding="utf-8")
    set_params(folder, source="small", watch="small", **SMALL)
    run(folder, "dvc", "repro", PATH=train_environment)
    commit(folder, "a small run")


@pytest.fixture(scope="session")
def clone_without_outputs(root, tmp_path_factory):
    """A clone of the working tree in which no stage ran."""
    folder = tmp_path_factory.mktemp("clone") / "koner"
    copy_project(root, folder)
    commit(folder, "a clone")
    return folder
