"""The four uses, typed as users type them: real DVC in a temporary clone, small settings."""

import json
import shutil
import sys

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset
from transformers import AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from koner.labels import TAGS
from tests.typed_commands import commit, metrics, read_params, run, set_params

pytest_plugins = ["tests.pipeline_fixtures"]


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


def test_nothing_reruns_when_nothing_changed(clone):
    said = run(clone, "dvc", "repro")
    assert "Running stage" not in said
    assert "up to date" in said
    assert run(clone, "git", "status", "--porcelain") == ""


def test_what_is_served_is_what_was_evaluated(clone):
    for path in (clone / "models/exported").iterdir():
        assert path.read_bytes() == (clone / "models/ner" / path.name).read_bytes()


def test_one_more_run_of_the_data_stages_gives_the_hashes_of_the_lock(clone):
    lock = (clone / "dvc.lock").read_text()
    run(clone, "dvc", "repro", "--force", "split")
    assert (clone / "dvc.lock").read_text() == lock


def test_a_change_of_the_watched_source_is_seen(clone):
    path = clone / "small" / "klue-ner-v1.1_dev.tsv"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    assert "prepare" in run(clone, "dvc", "status")
    path.write_bytes(before)
    assert "prepare" not in run(clone, "dvc", "status")


def test_dvc_exp_run_with_another_learning_rate(clone):
    said = run(clone, "dvc", "exp", "run", "-S", "lr=3e-5")
    assert "Running stage 'train'" in said
    assert "Running stage 'prepare'" not in said
    assert metrics(clone, "train")["lr"] == 0.00003
    assert read_params(clone)["lr"] == 0.00003
    change = json.loads(run(clone, "dvc", "metrics", "diff", "--json"))
    lr = change["metrics/train.json"]["lr"]
    assert (lr["old"], lr["new"]) == (0.001, 0.00003)
    assert "span" in run(clone, "dvc", "metrics", "diff")
    compared = json.loads(run(clone, "koner", "compare", "main", "workspace", "--json"))
    assert compared["sentences"] == 30
    assert compared["figures"]["span.f1"]["b"] == pytest.approx(metrics(clone, "evaluate")["span"]["f1"], abs=1e-6)
    plots = run(clone, "dvc", "plots", "diff", "HEAD", "--out", "seen")
    page = next(word for word in plots.split() if word.startswith("file://"))
    html = (clone / "seen" / "index.html").read_text()
    assert page.endswith("index.html")
    assert "workspace" in html
    shutil.rmtree(clone / "seen")
    run(clone, "git", "checkout", "--", ".")
    run(clone, "dvc", "checkout")


def test_dvc_exp_run_in_two_processes(clone):
    before = metrics(clone, "train")
    said = run(clone, "dvc", "exp", "run", "-S", "processes=2")
    assert "Running stage 'train'" in said
    assert "Running stage 'split'" not in said
    after = metrics(clone, "train")
    assert (after["sentences"], after["epochs"]) == (before["sentences"], before["epochs"])
    # Another draw of dropout, and nothing more.
    assert after["best"]["eval_loss"] != before["best"]["eval_loss"]
    assert after["best"]["eval_loss"] == pytest.approx(before["best"]["eval_loss"], rel=0.1)
    assert not list((clone / "models/checkpoints").iterdir())
    assert "up to date" in run(clone, "dvc", "repro")
    run(clone, "git", "checkout", "--", ".")
    run(clone, "dvc", "checkout")


def make_checkpoint(folder, template):
    """A checkpoint of the configuration and tokenizer in `template`, with random weights, as the hub lays one out."""
    RobertaForMaskedLM(RobertaConfig.from_pretrained(template)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(template).save_pretrained(folder)


def hub_layout(folder, rows_of):
    """A folder laid out as the hub dataset klue/klue is; `rows_of` gives each part's rows."""
    names = ClassLabel(names=list(TAGS))
    features = Features({"sentence": Value("string"), "tokens": List(Value("string")), "ner_tags": List(names)})
    for part, rows in rows_of.items():
        Dataset.from_list(rows, features=features).to_parquet(folder / "ner" / f"{part}-00000-of-00001.parquet")
    files = "".join(f"  - split: {part}\n    path: ner/{part}-*\n" for part in rows_of)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: ner\n  data_files:\n{files}---\n")


def test_the_klue_recipe_stays_switched(clone, tmp_path):
    """A switched recipe holds through `-S`; its dataset and model come from folders laid out as on the hub."""
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
    """klue/roberta-base's own shape on real sentences, a handful of steps: only the download is left untried."""
    make_checkpoint(tmp_path / "roberta", shared / "klue-roberta-base")
    real = load_dataset(str(shared / "klue-ner/hub"), "ner")
    rows = {part: [real[part][i] for i in range(n)] for part, n in (("train", 40), ("validation", 12))}
    hub_layout(tmp_path / "klue", rows)
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


def test_the_hub_out_of_reach_is_one_sentence(clone):
    set_params(clone, source="klue/klue", source_revision="349481ec73fff722f88e0453ca05c77a447d967c")
    said = run(clone, sys.executable, "-m", "stages.prepare", fails=True)
    assert said.count("koner: source: ") == 1
    assert "Traceback" not in said
    run(clone, "git", "checkout", "--", ".")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": "fast"}, "koner: params.yaml: lr: 'fast' is not allowed; it must be a number above 0, at most 1"),
        ({"learning_rate": 1}, "koner: params.yaml: learning_rate: 1 is set, but there is no such key"),
        ({"source": "./nowhere"}, "koner: source: there is no folder ./nowhere"),
        ({"base_model": "./nowhere"}, "koner: base_model: there is no folder ./nowhere"),
    ],
)
def test_a_mistake_ends_the_stage_with_one_sentence_and_changes_nothing(clone, change, said):
    before = (clone / "metrics/prepare.json").read_bytes()
    set_params(clone, **change)
    told = run(clone, sys.executable, "-m", "stages.prepare", fails=True)
    assert said in told
    assert "Traceback" not in told
    assert (clone / "metrics/prepare.json").read_bytes() == before
    assert not list((clone / "data").glob("*.tmp"))
    run(clone, "git", "checkout", "--", ".")
