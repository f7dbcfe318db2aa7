"""Pretraining by the commands that users type: DVC in a temporary clone, with small settings."""

import gzip
import json
import re
from runpy import run_module

import pytest
from transformers import AutoModel, AutoTokenizer

from tests.stages.typed_commands import commit, run, set_params

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
def pretrained(root, clone_without_outputs):
    """The folder of the stages with some raw text, after a run that was committed."""
    folder = clone_without_outputs / "stages/pretrain"
    (folder / "raw-text").mkdir()
    for genre in ("news", "reviews"):
        lines = (root / f"koner/resources/sample/train.{genre}.txt").read_text(encoding="utf-8").splitlines()[:100]
        text = re.sub(r"<([^<>]+):[A-Z]{2}>", r"\1", "\n".join(lines))
        (folder / "raw-text" / f"{genre}.txt.gz").write_bytes(gzip.compress(text.encode()))
    set_params(folder, **SMALL)
    run(folder, "dvc", "repro")
    commit(folder, "a small run")
    return folder


def test_the_pipeline_does_not_contain_pretraining(clone_without_outputs):
    assert "pretrain" not in run(clone_without_outputs, "dvc", "stage", "list", "--all", "--name-only")
    assert "pretrain" not in run(clone_without_outputs, "dvc", "metrics", "diff")
    # The checkout fails because a clone has no cache; no output of pretraining is among the missing files.
    assert "pretrain" not in run(clone_without_outputs, "dvc", "checkout", fails=True)


def test_a_model_with_metrics_and_plots_is_written(pretrained, tmp_path):
    assert AutoModel.from_pretrained(pretrained / "model", add_pooling_layer=False).config.hidden_size == 32
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "model")
    assert (len(tokenizer), tokenizer.model_max_length) == (tokenizer.vocab_size, 32)
    metrics = json.loads((pretrained / "metrics.json").read_text())
    assert metrics["tokens"] == 20 * 4 * 32
    assert metrics["held_loss"]["after"]["loss"] < metrics["held_loss"]["before"]["loss"]
    held = (pretrained / "dvclive/plots/metrics/held/loss.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in held] == ["step", "0", "10", "20"]
    assert not list((pretrained / "checkpoints").iterdir())
    run(pretrained, "dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    assert all(name in page for name in ("train/loss.tsv", "held/loss.tsv", "masked tokens, held out"))


def test_nothing_reruns_when_nothing_changed(pretrained):
    # Python has written its bytecode into the folders of the modules that the stages depend on.
    assert list((pretrained / "../../koner").glob("*/__pycache__"))
    assert "Running stage" not in run(pretrained, "dvc", "repro")
    assert "up to date" in run(pretrained, "dvc", "status")


def test_git_tracks_only_small_files(pretrained):
    tracked = run(pretrained, "git", "ls-files").split()
    assert {"dvc.lock", "metrics.json", "dvclive/metrics.json"} < set(tracked)
    assert not [name for name in tracked if name.startswith(("raw-text", "data", "model", "checkpoints"))]


def test_an_experiment_trains_again_on_the_same_packs(pretrained):
    output = run(pretrained, "dvc", "exp", "run", "-S", "lr=5e-4")
    assert "Stage 'pack' didn't change" in output
    assert "Running stage 'pretrain'" in output
    assert "held_loss.after.loss" in run(pretrained, "dvc", "metrics", "diff")
    assert "0.0005" in run(pretrained, "dvc", "params", "diff")
    run(pretrained, "git", "checkout", "--quiet", ".")
    run(pretrained, "dvc", "checkout")
    assert "up to date" in run(pretrained, "dvc", "status")


def test_a_change_of_the_text_is_detected(pretrained):
    (pretrained / "raw-text" / "more.txt").write_text("더 있다.\n", encoding="utf-8")
    assert "pack:" in run(pretrained, "dvc", "status")
    (pretrained / "raw-text" / "more.txt").unlink()


def test_an_error_is_one_line_and_changes_no_output(pretrained, monkeypatch):
    set_params(pretrained, texts=["./nowhere"])
    monkeypatch.chdir(pretrained)
    with pytest.raises(SystemExit, match=r"^koner: texts: there is no file or folder ./nowhere"):
        run_module("stages.pretrain.pack", run_name="__main__")
    assert [path.name for path in (pretrained / "data").iterdir()] == ["packs"]
    set_params(pretrained, texts=SMALL["texts"])
