"""The pipeline by the commands that users type: DVC in a temporary clone, with small parameters."""

import json
import shutil
import sys

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset
from transformers import AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from koner.labels.klue import KLUE
from tests.stages.typed_commands import commit, metrics, read_params, run, set_params


def test_every_output_of_the_stages_is_there(clone):
    for name in (
        "data/corpus/train.parquet",
        "data/lost/lost.csv",
        "data/lost/lost.md",
        "data/predictions.parquet",
        "models/ner/model.safetensors",
        "models/ner/README.md",
        "metrics/breakdown.json",
        "plots/evaluate/report.html",
        "plots/evaluate/reliability.png",
        "metrics/report.txt",
        "plots/train/epochs.png",
        "plots/split/balance.png",
        "plots/evaluate/tags.png",
        "plots/evaluate/types.png",
    ):
        assert (clone / name).stat().st_size > 0, name
    figures = metrics(clone, "evaluate")
    assert set(figures["wordpiece"]) == {"precision", "recall", "f1", "accuracy", "by_type"}
    assert {"precision", "recall", "f1", "macro_f1"} < set(figures["span"])
    assert set(figures["klue"]) == {"entity_f1", "char_f1", "by_type"}
    assert set(figures["calibration"]["expected_calibration_error"]) == {"before", "after"}
    assert all(0 <= i["low"] <= i["high"] <= 1 for i in figures["intervals"].values())
    assert set(figures["span"]["by_type"]) == {"DT", "LC", "OG", "PS", "QT", "TI"}
    assert not (clone / "models/checkpoints").exists() or not list((clone / "models/checkpoints").iterdir())


def test_the_wheel_with_the_extra_train_runs_the_pipeline(clone, train_environment):
    # The clone's run was made in this environment, which has none of the other extras.
    assert run(clone, "python", "-c", "import pytest", fails=True, PATH=train_environment)
    assert "koner, version" in run(clone, "koner", "--version", PATH=train_environment)
    assert "up to date" in run(clone, "dvc", "repro", PATH=train_environment)


def test_nothing_reruns_when_nothing_changed(clone):
    # Python has written its bytecode into the folders that the stages depend on.
    assert list(clone.glob("koner/*/__pycache__"))
    output = run(clone, "dvc", "repro")
    assert "Running stage" not in output
    assert "up to date" in output
    assert run(clone, "git", "status", "--porcelain") == ""


def test_nothing_reruns_in_a_clone_for_which_git_is_told_to_convert_line_ends(clone, tmp_path):
    run(tmp_path, "git", "clone", "--quiet", "--config", "core.autocrlf=true", str(clone), "converted")
    run(tmp_path / "converted", "dvc", "config", "--local", "cache.dir", str(clone / ".dvc/cache"))
    run(tmp_path / "converted", "dvc", "checkout")
    assert "up to date" in run(tmp_path / "converted", "dvc", "status")
    for path in ("params.yaml", "dvc.lock", "koner/resources/koner_mini/model.safetensors"):
        assert (tmp_path / "converted" / path).read_bytes() == (clone / path).read_bytes()


def test_the_served_model_is_the_evaluated_model(clone):
    for path in (clone / "models/exported").iterdir():
        assert path.read_bytes() == (clone / "models/ner" / path.name).read_bytes()


def test_the_data_stages_reproduce_the_hashes_of_the_lock(clone):
    lock = (clone / "dvc.lock").read_text()
    run(clone, "dvc", "repro", "--force", "split")
    assert (clone / "dvc.lock").read_text() == lock


def test_a_change_of_the_watched_source_is_detected(clone):
    path = clone / "small" / "klue-ner-v1.1_dev.tsv"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    assert "prepare" in run(clone, "dvc", "status")
    path.write_bytes(before)
    assert "prepare" not in run(clone, "dvc", "status")


def test_dvc_exp_run_with_another_learning_rate(clone):
    output = run(clone, "dvc", "exp", "run", "-S", "lr=3e-5")
    assert "Running stage 'train'" in output
    assert "Running stage 'prepare'" not in output
    assert metrics(clone, "train")["lr"] == 0.00003
    assert read_params(clone)["lr"] == 0.00003
    change = json.loads(run(clone, "dvc", "metrics", "diff", "--json"))
    lr = change["metrics/train.json"]["lr"]
    assert (lr["old"], lr["new"]) == (0.001, 0.00003)
    assert "span" in run(clone, "dvc", "metrics", "diff")
    compared = json.loads(run(clone, "koner", "compare", "main", "workspace", "--json"))
    assert compared["sentences"] == 30
    assert compared["figures"]["span.f1"]["b"] == pytest.approx(metrics(clone, "evaluate")["span"]["f1"], abs=1e-6)
    plots = run(clone, "dvc", "plots", "diff", "HEAD", "--out", "diff")
    page = next(word for word in plots.split() if word.startswith("file://"))
    html = (clone / "diff" / "index.html").read_text()
    assert page.endswith("index.html")
    assert "workspace" in html
    shutil.rmtree(clone / "diff")
    run(clone, "git", "checkout", "--", ".")
    run(clone, "dvc", "checkout")


def test_dvc_exp_run_in_two_processes(clone):
    before = metrics(clone, "train")
    output = run(clone, "dvc", "exp", "run", "-S", "processes=2")
    assert "Running stage 'train'" in output
    assert "Running stage 'split'" not in output
    after = metrics(clone, "train")
    assert (after["sentences"], after["epochs"]) == (before["sentences"], before["epochs"])
    # Only the random numbers of dropout differ.
    assert after["best"]["eval_loss"] != before["best"]["eval_loss"]
    assert after["best"]["eval_loss"] == pytest.approx(before["best"]["eval_loss"], rel=0.1)
    assert not list((clone / "models/checkpoints").iterdir())
    assert "up to date" in run(clone, "dvc", "repro")
    run(clone, "git", "checkout", "--", ".")
    run(clone, "dvc", "checkout")


def make_checkpoint(folder, template):
    """Write a checkpoint with random weights and the configuration and tokenizer of `template`."""
    RobertaForMaskedLM(RobertaConfig.from_pretrained(template)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(template).save_pretrained(folder)


def write_hub_dataset(folder, rows_by_part):
    """Write the rows of each part in the layout of the hub dataset klue/klue."""
    names = ClassLabel(names=list(KLUE.tags))
    features = Features({"sentence": Value("string"), "tokens": List(Value("string")), "ner_tags": List(names)})
    for part, rows in rows_by_part.items():
        Dataset.from_list(rows, features=features).to_parquet(folder / "ner" / f"{part}-00000-of-00001.parquet")
    files = "".join(f"  - split: {part}\n    path: ner/{part}-*\n" for part in rows_by_part)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: ner\n  data_files:\n{files}---\n")


def test_the_klue_recipe_persists_in_experiments(clone, tmp_path):
    make_checkpoint(tmp_path / "roberta", clone / "models/base")
    run(clone, "koner", "recipe", "klue")
    change = json.loads(run(clone, "dvc", "params", "diff", "--json"))["params.yaml"]
    assert change["recipe"] == {"old": "sample", "new": "klue"}
    assert change["source"]["new"] == "klue/klue"
    assert change["base_model"]["new"] == "klue/roberta-base"
    assert read_params(clone)["lr"] == 2e-5
    commit(clone, "the klue recipe")
    windows = ["-S", "max_divergence=1.0", "-S", "max_length=100", "-S", "stride=32"]
    local = ["-S", "source=small", "-S", f"base_model={tmp_path / 'roberta'}", "-S", "epochs=1"]
    run(clone, "dvc", "exp", "run", "-S", "lr=3e-5", *local, *windows)
    values = read_params(clone)
    assert values["recipe"] == "klue"
    assert (values["lr"], values["batch_size"], values["augment"]) == (3e-5, 8, 0)
    assert metrics(clone, "train")["lr"] == 3e-5
    run(clone, "git", "checkout", "--", ".")
    run(clone, "koner", "recipe", "sample")
    assert read_params(clone)["recipe"] == "sample"
    run(clone, "git", "reset", "--quiet", "--hard", "HEAD~1")
    run(clone, "dvc", "checkout")


def test_the_klue_recipe_at_full_shape(clone, shared, tmp_path):
    """A few steps with the shape of klue/roberta-base on real sentences; only the download is not tested."""
    make_checkpoint(tmp_path / "roberta", shared / "klue-roberta-base")
    real = load_dataset(str(shared / "klue-ner/hub"), "ner")
    rows = {part: [real[part][i] for i in range(n)] for part, n in (("train", 40), ("validation", 12))}
    write_hub_dataset(tmp_path / "klue", rows)
    run(clone, "koner", "recipe", "klue")
    set_params(clone, source=str(tmp_path / "klue"), watch=str(tmp_path / "klue"), max_divergence=1.0, epochs=1)
    set_params(clone, base_model=str(tmp_path / "roberta"))
    run(clone, "dvc", "repro")
    config = json.loads((clone / "models/ner/config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"], config["hidden_dropout_prob"]) == (12, 768, 0.1)
    assert metrics(clone, "prepare")["train"]["sentences"] == 40
    assert metrics(clone, "evaluate")["sentences"] == 12
    run(clone, "git", "checkout", "--", ".")
    run(clone, "dvc", "checkout")


def test_an_unreachable_hub_is_reported_in_one_sentence(clone):
    set_params(clone, source="klue/klue", source_revision="349481ec73fff722f88e0453ca05c77a447d967c")
    output = run(clone, sys.executable, "-m", "stages.prepare", fails=True)
    assert output.count("koner: source: ") == 1
    assert "Traceback" not in output
    run(clone, "git", "checkout", "--", ".")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": "fast"}, "koner: params.yaml: lr: 'fast' is not allowed; it must be a number above 0, at most 1"),
        ({"learning_rate": 1}, "koner: params.yaml: learning_rate: 1 is set, but there is no such key"),
        ({"source": "./nowhere"}, "koner: source: there is no file or folder ./nowhere"),
        ({"base_model": "./nowhere"}, "koner: base_model: there is no folder ./nowhere"),
    ],
)
def test_a_mistake_ends_the_stage_with_one_sentence_and_changes_no_output(clone, change, message):
    before = (clone / "metrics/prepare.json").read_bytes()
    set_params(clone, **change)
    output = run(clone, sys.executable, "-m", "stages.prepare", fails=True)
    assert message in output
    assert "Traceback" not in output
    assert (clone / "metrics/prepare.json").read_bytes() == before
    assert not list((clone / "data").glob("*.tmp"))
    run(clone, "git", "checkout", "--", ".")
