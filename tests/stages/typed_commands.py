"""Commands as users type them in a project, and the files that they read and write there."""

import json
import os
import shutil
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


def user_environment(**variables):
    """Return the variables of a user's shell in which this environment is activated, and `variables`."""
    environment = {
        **os.environ,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_OFFLINE": "1",
        **variables,
    }
    # Python's bytecode is written beside the code, as it is for users.
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        environment.pop(name, None)
    return environment


def run(folder, *command, fails=False, encoding="utf-8", **variables):
    """Run a command in `folder` with the tools of this environment, and return its output.

    `fails` states whether a non-zero exit status is expected; `variables` are added to the environment.
    """
    environment = user_environment(**variables)
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding=encoding, timeout=900)
    assert (process.returncode != 0) == fails, process.stdout + process.stderr
    return process.stdout + process.stderr


def copy_project(root, folder):
    """Copy the files of the working tree that Git tracks or would add into a new repository."""
    names = run(root, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "config", "user.name", "tester")
    run(folder, "git", "config", "user.email", "tester@example.org")


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
    """Return lines of the sample corpus in KLUE's file format."""
    from koner.corpus.checks import RawSentence, check

    blocks = []
    for i, line in enumerate(lines):
        sentence = check(RawSentence("", str(i), annotated=line))
        rows = [f"{character}\t{tag}" for character, tag in zip(sentence.text, sentence.tags, strict=True)]
        blocks.append("\n".join([f"## {name}_{i:05d}-wikitree\t{line}", *rows]))
    return "\n\n".join(blocks) + "\n"
