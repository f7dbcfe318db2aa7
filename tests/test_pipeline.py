"""The four uses, typed as users type them: real DVC in a temporary clone, small settings."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset
from ruamel.yaml import YAML
from transformers import AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from koner.labels import TAGS

SMALL = {
    "base_model": "scratch",
    "layers": 1,
    "hidden_size": 32,
    "heads": 2,
    "epochs": 1,
    "augment": 1,
    "max_divergence": 1.0,
    "development_share": 0.3,
    "lr": 1e-3,
}


def run(folder, *command, fails=False):
    """Runs a command in `folder` with this environment's tools first on the path; gives its output."""
    environment = {
        **os.environ,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def read_params(folder):
    return YAML(typ="safe", pure=True).load(folder / "params.yaml")


def set_params(folder, **values):
    yaml = YAML()
    document = yaml.load(folder / "params.yaml")
    document.update(values)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(document, file)


def commit(folder, message):
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)


def metrics(folder, name):
    return json.loads((folder / "metrics" / f"{name}.json").read_text())


def tsv(lines, name):
    """KLUE's file format for lines of the sample corpus."""
    from koner.corpus import RawSentence, check

    blocks = []
    for i, line in enumerate(lines):
        sentence = check(RawSentence("", str(i), annotated=line))
        rows = [f"{character}\t{tag}" for character, tag in zip(sentence.text, sentence.tags, strict=True)]
        blocks.append("\n".join([f"## {name}_{i:05d}-wikitree\t{line}", *rows]))
    return "\n\n".join(blocks) + "\n"


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """A clone of the working tree, its recipe made small, run once and committed."""
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


def test_a_grid_in_the_queue_is_shown_and_applied(clone):
    run(clone, "dvc", "exp", "run", "--queue", "-S", "lr=1e-5,4e-5")
    run(clone, "dvc", "exp", "run", "--run-all", "--jobs", "1")
    shown = list(csv.DictReader(run(clone, "dvc", "exp", "show", "--csv").splitlines()))
    column = next(name for name in shown[0] if name.endswith("lr") and "params" not in name.removesuffix("lr"))
    rates = {float(row[column]) for row in shown if row["Experiment"]}
    assert {0.00001, 0.00004} <= rates
    name = next(row["Experiment"] for row in shown if row["Experiment"] and float(row[column]) == 0.00004)
    run(clone, "dvc", "exp", "apply", name)
    assert read_params(clone)["lr"] == 0.00004
    assert metrics(clone, "train")["lr"] == 0.00004
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
