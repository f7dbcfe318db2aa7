"""Pretraining, typed as users type it: real DVC in a temporary clone, small settings."""

import gzip
import json
import re
import shutil
from runpy import run_module

import pytest
from transformers import AutoModel, AutoTokenizer

from tests.test_pipeline import commit, run, set_params

pytest.importorskip("dvclive")
pytest.importorskip("gensim")

SMALL = {
    "texts": ["raw-text"],
    "repeats": [2],
    "vocab_size": 6_000,
    "layers": 1,
    "hidden_size": 32,
    "heads": 2,
    "skipgram_epochs": 1,
    "length": 32,
    "held_out": 5,
    "batch_size": 4,
    "steps": 20,
    "warmup_steps": 2,
    "decay_steps": 4,
    "evaluate_every": 10,
}


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """A clone of the working tree, as it is before anything was run."""
    folder = tmp_path_factory.mktemp("clone") / "koner"
    listed = run(root, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, listed):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "config", "user.name", "tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    commit(folder, "a clone")
    return folder


@pytest.fixture(scope="module")
def pretrained(root, clone):
    """The folder of the stages, with a little raw text, run once and committed."""
    folder = clone / "stages/pretrain"
    (folder / "raw-text").mkdir()
    for genre in ("news", "reviews"):
        lines = (root / f"koner/sample/train.{genre}.txt").read_text(encoding="utf-8").splitlines()[:100]
        text = re.sub(r"<([^<>]+):[A-Z]{2}>", r"\1", "\n".join(lines))
        (folder / "raw-text" / f"{genre}.txt.gz").write_bytes(gzip.compress(text.encode()))
    set_params(folder, **SMALL)
    run(folder, "dvc", "repro")
    commit(folder, "a small run")
    return folder


def test_the_pipeline_knows_nothing_of_it(clone):
    assert "pretrain" not in run(clone, "dvc", "stage", "list", "--all", "--name-only")
    assert "pretrain" not in run(clone, "dvc", "metrics", "diff")
    # A clone has no cache, which is what this says; of pretraining there is nothing to be missed.
    assert "pretrain" not in run(clone, "dvc", "checkout", fails=True)


def test_a_model_its_figures_and_its_curves_are_made(pretrained, tmp_path):
    assert AutoModel.from_pretrained(pretrained / "model", add_pooling_layer=False).config.hidden_size == 32
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "model")
    assert (len(tokenizer), tokenizer.model_max_length) == (tokenizer.vocab_size, 32)
    figures = json.loads((pretrained / "metrics.json").read_text())
    assert figures["tokens"] == 20 * 4 * 32
    assert figures["held_loss"]["after"]["loss"] < figures["held_loss"]["before"]["loss"]
    held = (pretrained / "dvclive/plots/metrics/held/loss.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in held] == ["step", "0", "10", "20"]
    assert not list((pretrained / "checkpoints").iterdir())
    run(pretrained, "dvc", "plots", "show", "--out", str(tmp_path / "seen"))
    page = (tmp_path / "seen/index.html").read_text()
    assert all(name in page for name in ("train/loss.tsv", "held/loss.tsv", "masked tokens, held out"))


def test_git_holds_what_is_small(pretrained):
    tracked = run(pretrained, "git", "ls-files").split()
    assert {"dvc.lock", "metrics.json", "dvclive/metrics.json"} < set(tracked)
    assert not [name for name in tracked if name.startswith(("raw-text", "data", "model", "checkpoints"))]


def test_an_experiment_trains_again_on_the_same_packs(pretrained):
    said = run(pretrained, "dvc", "exp", "run", "-S", "lr=5e-4")
    assert "Stage 'pack' didn't change" in said
    assert "Running stage 'pretrain'" in said
    assert "held_loss.after.loss" in run(pretrained, "dvc", "metrics", "diff")
    assert "0.0005" in run(pretrained, "dvc", "params", "diff")
    run(pretrained, "git", "checkout", "--quiet", ".")
    run(pretrained, "dvc", "checkout")
    assert "up to date" in run(pretrained, "dvc", "status")


def test_a_change_of_the_text_is_seen(pretrained):
    (pretrained / "raw-text" / "more.txt").write_text("더 있다.\n", encoding="utf-8")
    assert "pack:" in run(pretrained, "dvc", "status")
    (pretrained / "raw-text" / "more.txt").unlink()


def test_a_mistake_ends_the_stage_with_one_sentence_and_changes_nothing(pretrained, monkeypatch):
    set_params(pretrained, texts=["./nowhere"])
    monkeypatch.chdir(pretrained)
    with pytest.raises(SystemExit, match=r"^koner: texts: there is no file or folder ./nowhere"):
        run_module("stages.pretrain.pack", run_name="__main__")
    assert [path.name for path in (pretrained / "data").iterdir()] == ["packs"]
    set_params(pretrained, texts=SMALL["texts"])
