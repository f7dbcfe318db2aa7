"""What a stage can import must be among its dependencies, or DVC would report old figures as current."""

import ast
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

# Modules that no stage depends on, on purpose; what only they import is left out, too.
LEFT_OUT = {
    "koner": "it offers the public names, which no stage uses (a test below), by a lazy import",
    "stages": "it checks the Python that runs a stage",
    "stages.runner": "it locks the folder and says how a stage ends; it silences transformers' notices",
    "koner.errors": "it words messages and the exit status, and no output",
    "koner.params": "DVC tracks the values of the parameters that a stage reads",
    "koner.validation": "it words messages about parameters",
    "koner.versions": "it compares versions that DVC tracks as parameters",
}
# Packages that no stage tracks, on purpose.
PACKAGES_LEFT_OUT = {
    "koner": "it offers the public names, which no stage uses (a test below), by a lazy import",
    "stages": "it checks the Python that runs a stage, and locks the folder",
    "filelock": "it locks files",
    "psutil": "it finds the DVC that runs a stage",
    "pydantic": "it checks parameters",
    "spacy": "only sources in its own format need it",
    "ruamel.yaml": "it reads parameters, whose values DVC tracks",
    "tqdm": "it draws progress bars",
}
# What a package reads its data from: imports do not show it.
DATA_PACKAGES = {"kiwipiepy": "kiwipiepy_model", "python-mecab-ko": "python-mecab-ko-dic"}
# What a module runs on without importing it.
RUNTIME_PACKAGES = {"koner.pretraining.trainer": "accelerate"}
# Folders of a project, and the module of each of its stages.
PROJECTS = {".": "stages", "stages/pretrain": "stages.pretrain", "stages/audit": "stages.audit"}
STAGES = [
    (project, stage)
    for project in PROJECTS
    for stage in YAML(typ="safe", pure=True).load(Path(__file__).parents[2] / project / "dvc.yaml")["stages"]
]
KONER = {"koner", "app", "stages"}


@cache
def graph():
    """The imports of koner and the stages, those inside functions among them."""
    return grimp.build_graph("koner", "stages", include_external_packages=True, cache_dir=None)


def closure(module):
    """The modules that `module` can import, itself and the packages that hold them included."""
    reached, waiting = set(), [module]
    while waiting:
        module = waiting.pop()
        if module in reached or module in LEFT_OUT:
            continue
        reached.add(module)
        if module.partition(".")[0] in KONER:
            waiting += graph().find_modules_directly_imported_by(module)
            if "." in module:
                waiting.append(module.rpartition(".")[0])
    return reached


def file_of(module, root):
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def has_code(path):
    """Whether a file holds more than a docstring and future imports."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        for node in body
    )


def needed_files(module, root):
    modules = [name for name in closure(module) if name.partition(".")[0] in KONER]
    return {path for path in (file_of(name, root) for name in modules) if has_code(path)}


def read_stage(root, project, stage):
    return YAML(typ="safe", pure=True).load(root / project / "dvc.yaml")["stages"][stage]


def code_dependencies(root, project, stage):
    """The dependencies of a stage that are or hold code, as absolute paths."""
    paths = [(root / project / name).resolve() for name in read_stage(root, project, stage)["deps"] if "$" not in name]
    return [path for path in paths if path.suffix == ".py" or (path / "__init__.py").is_file()]


def uncovered(files, dependencies):
    return {file for file in files if not any(file == path or path in file.parents for path in dependencies)}


def tracked_packages(root, project, stage):
    entries = [entry for entry in read_stage(root, project, stage)["params"] if isinstance(entry, dict)]
    return {name for entry in entries for key, names in entry.items() if "versions.yaml" in key for name in names}


def needed_packages(module):
    distributions = packages_distributions()
    names = {name.partition(".")[0] for name in closure(module)} - KONER - set(sys.stdlib_module_names)
    packages = {distributions[name][0] for name in names} - set(PACKAGES_LEFT_OUT)
    packages |= {DATA_PACKAGES[name] for name in packages & set(DATA_PACKAGES)}
    return packages | {RUNTIME_PACKAGES[name] for name in closure(module) & set(RUNTIME_PACKAGES)}


@pytest.mark.parametrize(("project", "stage"), STAGES)
def test_a_stage_depends_on_every_module_that_it_can_import(root, project, stage):
    files = needed_files(f"{PROJECTS[project]}.{stage}", root)
    assert uncovered(files, code_dependencies(root, project, stage)) == set()


@pytest.mark.parametrize(("project", "stage"), STAGES)
def test_no_code_dependency_is_superfluous(root, project, stage):
    files = needed_files(f"{PROJECTS[project]}.{stage}", root)
    dependencies = code_dependencies(root, project, stage)
    for dependency in dependencies:
        assert uncovered(files, [other for other in dependencies if other != dependency]), dependency


@pytest.mark.parametrize(("project", "stage"), STAGES)
def test_a_stage_tracks_the_versions_of_the_packages_that_it_can_import(root, project, stage):
    assert tracked_packages(root, project, stage) == needed_packages(f"{PROJECTS[project]}.{stage}")


def test_every_tracked_package_is_pinned(root):
    pinned = YAML(typ="safe", pure=True).load(root / "stages/versions.yaml").keys()
    tracked = set().union(*(tracked_packages(root, project, stage) for project, stage in STAGES))
    assert tracked == pinned


def test_imports_inside_functions_count(root):
    assert root / "koner/training/fit.py" in needed_files("stages.train", root)
    # The base model is made with transformers, which koner.encoder imports in a function.
    assert "transformers" in needed_packages("stages.prepare")


@pytest.mark.parametrize("module", LEFT_OUT)
def test_what_is_left_out_exists_and_is_imported_by_a_stage(module):
    assert module in graph().modules
    names = {f"{PROJECTS[project]}.{stage}" for project, stage in STAGES}
    assert module in KONER or any(module in graph().find_upstream_modules(name) for name in names)


def test_a_stage_does_not_use_the_lazy_public_names():
    """`from koner import Tagger` imports koner.inference when it is used, which the closure leaves out."""
    for project, stage in STAGES:
        for module in closure(f"{PROJECTS[project]}.{stage}"):
            if module.partition(".")[0] in KONER:
                assert "koner" not in graph().find_modules_directly_imported_by(module), module


def test_a_stage_depends_on_the_resources_that_it_reads(root):
    """Files that are read at run time are in no import."""
    readers = {"prepare": {"koner/resources/koner_mini", "${watch}"}, "train": {"koner/resources/names"}}
    for project, stage in STAGES:
        dependencies = set(read_stage(root, project, stage)["deps"])
        if project == ".":
            assert readers.get(stage, set()) <= dependencies


def test_the_order_of_the_packages_is_kept(root):
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# By module, a line that must not be in it, and the import that is reported.
FORBIDDEN = {
    "koner/labels/bio.py": ("from koner.corpus import sentences", "koner.labels.bio -> koner.corpus.sentences"),
    "koner/inference/tagger.py": (
        "def load():\n    from koner.training import fit",
        "koner.inference.tagger -> koner.training.fit",
    ),
    "koner/corpus/parts.py": ("from app import settings", "koner.corpus.parts -> app.settings"),
}


def test_forbidden_imports_are_found(root, tmp_path):
    for name in ("app", "stages", "pyproject.toml"):
        (tmp_path / name).symlink_to(root / name)
    subprocess.run(["cp", "-r", root / "koner", tmp_path], check=True)
    for module, (line, _) in FORBIDDEN.items():
        with (tmp_path / module).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{line}\n")
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    for _, reported in FORBIDDEN.values():
        assert reported in done.stdout
