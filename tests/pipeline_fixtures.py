"""Fixtures of the pipeline: a clone of the project in which real DVC runs it, small.

A test module takes them by `pytest_plugins = ["tests.pipeline_fixtures"]`.
"""

import shutil

import pytest

from tests.typed_commands import SMALL, commit, run, set_params, tsv


@pytest.fixture(scope="session")
def clone(root, tmp_path_factory):
    """A clone of the working tree, its recipe made small, run once and committed; a test leaves it as it was."""
    folder = tmp_path_factory.mktemp("clone") / "koner"
    listed = run(root, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, listed):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    corpus = folder / "small"
    corpus.mkdir()
    for part, name, count in (("train", "train", 80), ("validation", "dev", 30)):
        lines = (root / "koner/sample" / f"{part}.news.txt").read_text(encoding="utf-8").splitlines()[:count]
        (corpus / f"klue-ner-v1.1_{name}.tsv").write_text(tsv(lines, f"small_{name}"), encoding="utf-8")
    set_params(folder, source="small", watch="small", **SMALL)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "config", "user.name", "tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    run(folder, "dvc", "repro")
    commit(folder, "a small run")
    return folder
