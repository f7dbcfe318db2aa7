"""Projects in which real DVC runs the pipeline."""

import pytest

from tests.environments import build_wheel, make_environment
from tests.stages.typed_commands import SMALL, commit, copy_project, run, set_params, tsv


@pytest.fixture(scope="session")
def train_environment(root, tmp_path_factory):
    """The PATH of an environment that holds what `pip install 'koner[train]'` installs from the wheel."""
    folder = tmp_path_factory.mktemp("train")
    programs = make_environment(build_wheel(root, folder), folder / "venv", "train")
    return f"{programs}:/usr/bin:/bin"


@pytest.fixture(scope="session")
def clone(root, tmp_path_factory, train_environment):
    """A clone of the working tree with small parameters after a run that was committed; a test leaves it unchanged."""
    folder = tmp_path_factory.mktemp("clone") / "koner"
    copy_project(root, folder)
    corpus = folder / "small"
    corpus.mkdir()
    for part, name, count in (("train", "train", 80), ("validation", "dev", 30)):
        lines = (root / "koner/resources/sample" / f"{part}.news.txt").read_text(encoding="utf-8").splitlines()[:count]
        (corpus / f"klue-ner-v1.1_{name}.tsv").write_text(tsv(lines, f"small_{name}"), encoding="utf-8")
    set_params(folder, source="small", watch="small", **SMALL)
    run(folder, "dvc", "repro", PATH=train_environment)
    commit(folder, "a small run")
    return folder


@pytest.fixture(scope="session")
def clone_without_outputs(root, tmp_path_factory):
    """A clone of the working tree in which no stage ran."""
    folder = tmp_path_factory.mktemp("clone") / "koner"
    copy_project(root, folder)
    commit(folder, "a clone")
    return folder
