"""The commands that users type in a project, and what they change and read there."""

import json
import os
import subprocess
import sys

from ruamel.yaml import YAML

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


def run(folder, *command, fails=False, **variables):
    """Runs a command in `folder` with this environment's tools first on the path; gives its output."""
    environment = {
        **os.environ,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_OFFLINE": "1",
        **variables,
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
