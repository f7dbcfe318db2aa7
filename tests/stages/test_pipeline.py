"""The pipeline by the commands that users type: DVC in a temporary clone, with small parameters."""

import json
import re
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


def test_dvc_exp_run_in_two_processes(clone):
    before = metrics(clone, "train")
    output = run(clone, "dvc", "exp", "run", "-S", "processes=2", "train")
    assert re.findall(r"Running stage '(\w+)'", output) == ["train"]
    after = metrics(clone, "train")
    assert (after["sentences"], after["epochs"]) == (before["sentences"], before["epochs"])
    # Only the random numbers of dropout differ.
    assert after["best"]["eval_loss"] != before["best"]["eval_loss"]
    assert after["best"]["eval_loss"] == pytest.approx(before["best"]["eval_loss"], rel=0.1)
    assert not list((clone / "models/checkpoints").iterdir())
    assert "up to date" in run(clone, "dvc", "repro", "train")
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


def write_klue_inputs(clone, shared, folder):
    """Write a corpus and a base model to a folder, and return the parameters of an experiment with them.

    They are real sentences in the layout of the hub and a model of the shape of klue/roberta-base, or, without the real
    sentences, those of the clone.
    """
    if shared is None:
        make_checkpoint(folder / "roberta", clone / "models/base")
        # Its model has fewer positions than the recipe's windows.
        return {"source": "small", "watch": "small", "max_length": 100, "stride": 32}
    make_checkpoint(folder / "roberta", shared / "klue-roberta-base")
    real = load_dataset(str(shared / "klue-ner/hub"), "ner")
    rows = {part: [real[part][i] for i in range(n)] for part, n in (("train", 24), ("validation", 8))}
    write_hub_dataset(folder / "klue", rows)
    return dict.fromkeys(("source", "watch"), folder / "klue")


@pytest.fixture(scope="module")
def klue_run(clone, shared_if_present, tmp_path_factory):
    """The clone after an experiment with the klue recipe, for a few steps; only the downloads are not tested."""
    folder = tmp_path_factory.mktemp("klue")
    inputs = write_klue_inputs(clone, shared_if_present, folder)
    values = {"max_divergence": 1.0, "epochs": 1, "base_model": folder / "roberta", **inputs}
    run(clone, "koner", "recipe", "klue")
    change = json.loads(run(clone, "dvc", "params", "diff", "--json"))["params.yaml"]
    commit(clone, "the klue recipe")
    settings = [word for name, value in values.items() for word in ("-S", f"{name}={value}")]
    run(clone, "dvc", "exp", "run", "-S", "lr=3e-5", *settings)
    yield clone, change
    run(clone, "git", "checkout", "--", ".")
    run(clone, "koner", "recipe", "sample")
    assert read_params(clone)["recipe"] == "sample"
    run(clone, "git", "reset", "--quiet", "--hard", "HEAD~1")
    run(clone, "dvc", "checkout")


def test_the_klue_recipe_persists_in_experiments(klue_run):
    folder, change = klue_run
    assert change["recipe"] == {"old": "sample", "new": "klue"}
    assert change["source"]["new"] == "klue/klue"
    assert change["base_model"]["new"] == "klue/roberta-base"
    assert change["lr"]["new"] == 2e-5
    values = read_params(folder)
    assert values["recipe"] == "klue"
    assert (values["lr"], values["batch_size"], values["augment"]) == (3e-5, 8, 0)
    assert metrics(folder, "train")["lr"] == 3e-5


@pytest.mark.usefixtures("shared")
def test_the_klue_recipe_at_full_shape(klue_run):
    """A few steps with the shape of klue/roberta-base on real sentences."""
    folder, _ = klue_run
    config = json.loads((folder / "models/ner/config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"], config["hidden_dropout_prob"]) == (12, 768, 0.1)
    assert metrics(folder, "prepare")["train"]["sentences"] == 24
    assert metrics(folder, "evaluate")["sentences"] == 8
