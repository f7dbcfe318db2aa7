"""The extras of pyproject.toml, and the wheel as `pip install koner` installs it."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import urllib.request
import venv
from importlib.metadata import metadata, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from koner.errors import exit_on_error
from koner.extras import EXTRAS
from tests.app.gunicorn_service import make_checkout
from tests.environments import build_wheel

TEXT = "가 마 자"
# Distributions that no module imports by name.
DATA = {"koreanize-matplotlib", "python-mecab-ko-dic"}
PATHS = ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/version", "/metrics")


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def known():
    """The distributions that provide each package."""
    return packages_distributions()


def distributions(requirements):
    """Return the names of the distributions that requirements name directly, without koner's own extras."""
    return {canonicalize_name(Requirement(line).name) for line in requirements} - {"koner"}


def imported_packages(root):
    """Return the top-level packages of others that a module of koner or app imports, lazy imports included."""
    packages = set()
    for path in [*(root / "koner").rglob("*.py"), *(root / "app").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                packages |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                packages.add(node.module.partition(".")[0])
    return packages - sys.stdlib_module_names - {"koner", "app"}


def test_each_extra_lists_the_packages_that_it_installs(project, known):
    for extra, packages in EXTRAS.items():
        names = {canonicalize_name(known[package][0]) for package in packages}
        assert names == distributions(project["optional-dependencies"][extra]) - DATA


def test_every_imported_package_is_a_dependency_or_in_an_extra(root, project, known):
    base = distributions(project["dependencies"])
    in_extras = set().union(*EXTRAS.values())
    unknown = {p for p in imported_packages(root) - in_extras if canonicalize_name(known[p][0]) not in base}
    # jinja2 and werkzeug are parts of Flask; packages that are not listed would be missing in a new environment.
    assert unknown <= {"werkzeug"}


def test_every_pinned_package_runs_on_the_lowest_python_of_the_project(root, project):
    lowest = project["requires-python"].removeprefix(">=") + ".0"
    pinned = [Requirement(line).name for line in (root / "requirements.lock").read_text().splitlines() if "==" in line]
    needed = {name: metadata(name)["Requires-Python"] for name in pinned}
    assert {n: python for n, python in needed.items() if python and lowest not in SpecifierSet(python)} == {}


def test_a_missing_extra_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as exit_, exit_on_error():
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert exit_.value.code == "koner: torch is not installed; pip install 'koner[train]'"


def test_another_missing_module_is_not_hidden():
    with pytest.raises(ModuleNotFoundError), exit_on_error():
        raise ModuleNotFoundError("No module named 'koner.nothing'", name="koner.nothing")


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory):
    """The bin folder of a new environment that holds the wheel and its dependencies, at the pinned versions."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "venv", with_pip=True)
    command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(root / "requirements.lock")]
    pip = subprocess.run(
        [folder / "venv/bin/python", *command, str(build_wheel(root, folder))],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert pip.returncode == 0, pip.stderr
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("checkout"))


def run(installed, checkout, *command):
    return subprocess.run(
        [installed / command[0], *command[1:]],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def test_the_wheel_alone_installs_neither_torch_nor_dvc(installed, checkout):
    listing = run(installed, checkout, "python", "-m", "pip", "list", "--format", "json").stdout
    names = {package["name"].lower() for package in json.loads(listing)}
    assert names.isdisjoint({"torch", "transformers", "dvc", "datasets", "pyarrow", "scikit-learn"})


def test_the_wheel_alone_tags(installed, checkout):
    process = run(installed, checkout, "koner", "tag", "--format", "jsonl", TEXT)
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout)["input"] == TEXT


def test_the_wheel_alone_serves(installed, checkout):
    with subprocess.Popen(
        [installed / "koner", "serve", "--port", "0"],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "HOST": "127.0.0.1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            lines = iter(process.stderr.readline, "")
            port = next(match[1] for line in lines if (match := re.search(r"Listening at: http://.*:(\d+)", line)))
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/infer",
                json.dumps({"text": TEXT}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                assert json.load(response)["input"] == TEXT
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["tag", "--engine", "local", "texts.txt", "out"], r"\w+ is not installed; pip install 'koner\[bulk\]'"),
        (["tag", "--engine", "ray", "texts.txt", "out"], r"\w+ is not installed; pip install 'koner\[(ray|bulk)\]'"),
        (["select", "texts.txt", "--budget", "1"], r"\w+ is not installed; pip install 'koner\[bulk\]'"),
        (["drift", "texts.txt", "texts.txt"], r"\w+ is not installed; pip install 'koner\[(train|bulk)\]'"),
        (["compare", "main", "workspace"], r"\w+ is not installed; pip install 'koner\[(train|bulk)\]'"),
        (["serve", "--rev", "main"], r"dvc is not installed; pip install 'koner\[train\]'"),
    ],
)
def test_a_command_that_needs_an_extra_names_it(installed, checkout, command, sentence):
    (checkout / "texts.txt").write_text(TEXT, encoding="utf-8")
    process = run(installed, checkout, "koner", *command)
    assert process.returncode == 1
    assert re.fullmatch(f"koner: {sentence}\n", process.stderr)
