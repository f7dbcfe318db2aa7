"""Models that are pushed from one clone to an S3 server, and pulled, imported, registered and served in others."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest
from ruamel.yaml import YAML

from koner.errors import KonerError
from koner.release import revisions
from koner.release.hashing import folder_hash
from koner.release.revisions import fetch_model
from tests.app.gunicorn_service import ROOT, TEXTS, Service, write_model

pytest.importorskip("moto", reason="needs moto, the S3 server of this test")
pytest.importorskip("dvc_s3", reason="needs dvc-s3: pip install 'koner[s3]'")
from tests.release.s3_server import BUCKET, Store

KONER = ("-c", "from koner.cli.main import main; main()")
FIGURES = {"span": {"f1": 0.5}}


@pytest.fixture(scope="module")
def store():
    with Store() as store:
        yield store


def run(folder, *command, fails=False, **environment):
    """Run a command of this environment in `folder` and return its output."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", **environment}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert (result.returncode != 0) == fails, result.stdout + result.stderr
    return result.stdout + result.stderr


class Origin:
    """A bare repository, and the clone that makes its models and pushes them."""

    def __init__(self, folder, store):
        self.folder, self.store, self.address = folder, store, folder / "koner.git"
        self.maker = folder / "maker"
        self.hashes = {}
        self.maker.mkdir()
        self.git(self.maker, "init", "--quiet", "--initial-branch", "main")
        for name in ("name", "email"):
            self.git(self.maker, "config", f"user.{name}", "a@b")
        run(self.maker, "dvc", "init", "--quiet")
        # The project's last stage, without the stages before it.
        yaml = YAML(typ="safe", pure=True)
        pipeline = yaml.load(ROOT / "dvc.yaml")
        package = {
            "cmd": "false",
            "outs": pipeline["stages"]["package"]["outs"],
            "metrics": [{"metrics/evaluate.json": {"cache": False}}],
        }
        yaml.dump({"stages": {"package": package}, "artifacts": pipeline["artifacts"]}, self.maker / "dvc.yaml")
        (self.maker / ".gitignore").write_text("/models/\n/tmp/\n/std*\n")
        (self.maker / "metrics").mkdir()
        (self.maker / "metrics/evaluate.json").write_text(json.dumps(FIGURES))
        for setting in (
            ("add", "--default", "store", f"s3://{BUCKET}/koner"),
            ("modify", "store", "endpointurl", store.address),
            ("modify", "store", "verify", "true"),
        ):
            run(self.maker, "dvc", "remote", *setting)
        self.git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", str(self.address))
        self.git(self.maker, "remote", "add", "origin", str(self.address))

    def git(self, folder, *command):
        return run(folder, "git", *command).strip()

    def release(self, version, seed):
        """Make a model, register it as a version, and push both."""
        shutil.rmtree(self.maker / "models/ner", ignore_errors=True)
        self.hashes[version] = write_model(self.maker / "models/ner", seed)
        run(self.maker, "dvc", "commit", "--force", "package")
        self.git(self.maker, "add", "--all")
        self.git(self.maker, "commit", "--quiet", "--message", version)
        run(self.maker, "gto", "register", "koner", "--version", version)
        run(self.maker, "dvc", "push", **self.store.environment)
        self.git(self.maker, "push", "--quiet", "--tags", "origin", "main")

    def promote(self, version):
        """Assign the stage `prod` to a version."""
        run(self.maker, "gto", "assign", "koner", "--version", version, "--stage", "prod")
        self.git(self.maker, "push", "--quiet", "--tags")

    def clone(self, folder):
        self.git(folder.parent, "clone", "--quiet", str(self.address), str(folder))
        return folder


@pytest.fixture(scope="module")
def origin(tmp_path_factory, store):
    origin = Origin(tmp_path_factory.mktemp("origin"), store)
    origin.release("v1.0.0", seed=1)
    origin.release("v2.0.0", seed=2)
    origin.promote("v1.0.0")
    return origin


@pytest.fixture
def clone(tmp_path, origin):
    return origin.clone(tmp_path / "clone")


def is_unchanged(clone, origin):
    """Return whether a clone has a clean working tree and no file of a model anywhere."""
    names = set(os.listdir(origin.maker / "models/ner"))
    leftovers = [path for path in (clone / ".dvc/tmp").rglob("*") if path.is_file() and path.name in names]
    return not leftovers and not (clone / "models/ner").exists() and not origin.git(clone, "status", "--porcelain")


def test_a_pulled_model_is_served_without_training(origin, clone, store):
    run(clone, "dvc", "pull", **store.environment)
    # The Makefile then uses this environment instead of installing one.
    for name in ("requirements.lock", "pyproject.toml", "Makefile", "installed"):
        (clone / name).write_text((ROOT / "Makefile").read_text())
    make = ("make", "--no-print-directory", f"VENV={sys.prefix}", "INSTALLED=installed", "serve")
    with Service(clone, "-c", f"import os; os.execvp('make', {make})") as service:
        response, _ = service.infer(TEXTS[0])
        assert (response.status, response.headers["X-Koner-Model"]) == (200, origin.hashes["v2.0.0"])


def test_another_repository_imports_the_model_by_name_and_version(origin, tmp_path, store):
    origin.git(tmp_path, "init", "--quiet")
    run(tmp_path, "dvc", "init", "--quiet")
    get = ("dvc", "artifacts", "get", str(origin.address), "koner")
    for out, version, choice in (
        ("newest", "v2.0.0", ()),
        ("prod", "v1.0.0", ("--stage", "prod")),
    ):
        run(tmp_path, *get, "--out", out, *choice, **store.environment)
        assert folder_hash(tmp_path / out) == origin.hashes[version]
    source = (str(origin.address), "models/ner", "--rev", "koner@v1.0.0", "--out")
    run(tmp_path, "dvc", "get", *source, "got", **store.environment)
    run(tmp_path, "dvc", "import", *source, "imported", **store.environment)
    assert folder_hash(tmp_path / "got") == folder_hash(tmp_path / "imported") == origin.hashes["v1.0.0"]
    run(tmp_path, "dvc", "update", "imported.dvc", "--rev", "koner@v2.0.0", **store.environment)
    assert folder_hash(tmp_path / "imported") == origin.hashes["v2.0.0"]
    assert "rev: koner@v2.0.0" in (tmp_path / "imported.dvc").read_text()


def test_the_version_in_production_is_served(origin, clone, store):
    for count, version in ((1, "v1.0.0"), (2, "v2.0.0")):
        if count > 1:
            origin.promote(version)
            origin.git(clone, "fetch", "--quiet", "--tags")
        assert f"koner#prod#{count}" in origin.git(clone, "tag").splitlines()
        revision = run(clone, "gto", "show", "koner#prod", "--ref").strip()
        assert revision == f"koner@{version}"
        with Service(clone, *KONER, "serve", "--rev", revision, **store.environment) as service:
            version_document = json.loads(service.get("/version")[1])
            assert version_document["model"] | {"labels": None} == {
                "hash": origin.hashes[version],
                "pinned": origin.hashes[version],
                "locked": True,
                "labels": None,
            }
            assert version_document["revision"] == origin.git(clone, "rev-parse", f"{revision}^{{}}")
            assert version_document["metrics"] == FIGURES
    assert not (clone / "models/ner").exists()
    assert origin.git(clone, "status", "--porcelain") == ""


def test_a_fetched_model_is_reused_and_repaired_from_any_folder(origin, clone, store, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    first = fetch_model("koner#prod#1", clone)
    with store.truncated((origin.maker / "models/ner/config.json").read_bytes()):
        # The folder is named by the commit, so another name of the commit finds it.
        assert fetch_model("koner@v1.0.0", clone) == first
    (first.root / "models/ner/config.json").unlink()
    (clone / "deeper").mkdir()
    monkeypatch.chdir(clone / "deeper")
    assert folder_hash(fetch_model("koner@v1.0.0").root / "models/ner") == origin.hashes["v1.0.0"]
    assert [p.name for p in first.root.parent.iterdir()] == [first.commit]


@pytest.mark.parametrize(
    ("fault", "environment", "pull", "serve"),
    [
        (None, {"AWS_SECRET_ACCESS_KEY": "wrong"}, "403", "refuses these credentials"),
        (
            "missing",
            {},
            "key does not exist",
            "neither DVC's cache nor a remote has models/ner/model.onnx; ",
        ),
        ("truncated", {}, "payload is not completed", "cannot be fetched: Response payload is not completed"),
        ("damaged", {}, "Checkout failed", "models/ner/model.onnx is damaged in DVC's cache or remote; delete s3://"),
    ],
)
def test_an_error_of_the_remote_is_reported_and_changes_nothing(origin, clone, store, fault, environment, pull, serve):
    content = (origin.maker / "models/ner/model.onnx").read_bytes()
    environment = {**store.environment, **environment}
    with getattr(store, fault)(content) if fault else nullcontext():
        (line,) = run(clone, sys.executable, *KONER, "serve", "--rev", "HEAD", fails=True, **environment).splitlines()
        assert line.startswith("koner: HEAD: ")
        assert serve in line
        assert is_unchanged(clone, origin)
        assert pull in run(clone, "dvc", "pull", fails=True, **environment)
        assert is_unchanged(clone, origin)


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_the_advice_for_a_fault_of_the_remote_mends_it(origin, clone, store, monkeypatch, fault):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    content = (origin.maker / "models/ner/model.onnx").read_bytes()
    with getattr(store, fault)(content):
        with pytest.raises(KonerError) as error:
            fetch_model("HEAD", clone)
        # The remote has the list of the model's files, so `dvc push` takes it to have the files too.
        assert "up to date" in run(origin.maker, "dvc", "push")
        for address in re.findall(rf"s3://{BUCKET}/([\w/.]+)", str(error.value)):
            store.s3.delete_object(Bucket=BUCKET, Key=address)
        assert "2 files pushed" in run(origin.maker, "dvc", "push")
        assert folder_hash(fetch_model("HEAD", clone).root / "models/ner") == origin.hashes["v2.0.0"]


def test_a_revision_without_a_model_is_reported(clone, origin, tmp_path):
    origin.git(clone, "rm", "--quiet", "dvc.lock")
    origin.git(clone, "commit", "--quiet", "--message", "nothing made yet")
    (tmp_path / "elsewhere").mkdir()
    for folder, revision, sentence in (
        (clone, "HEAD", "HEAD has no dvc.lock, so it pins no model"),
        (clone, "", "the name of the revision is empty; name a commit, a branch, a tag or a DVC experiment"),
        (tmp_path / "elsewhere", "HEAD", "the model of a revision can only be fetched in a Git"),
    ):
        with pytest.raises(KonerError) as raised:
            fetch_model(revision, folder)
        assert str(raised.value).startswith(sentence)
    output = run(clone, sys.executable, *KONER, "serve", "--rev", "nothing", fails=True)
    assert output == "koner: unknown Git revision 'nothing'; `git log` and `git tag` list the names that exist\n"
    assert is_unchanged(clone, origin)


def test_a_model_fetched_by_another_process_meanwhile_is_used(origin, clone, store, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    download = revisions._download

    def download_twice(revision, filesystem, folder):
        download(revision, filesystem, folder)
        shutil.copytree(folder, folder.parent.parent / folder.name)

    monkeypatch.setattr(revisions, "_download", download_twice)
    assert folder_hash(fetch_model("HEAD", clone).root / "models/ner") == origin.hashes["v2.0.0"]


def test_a_refused_push_changes_nothing(origin, clone, store):
    (clone / "new").write_text("new")
    run(clone, "dvc", "add", "new")
    before = store.keys()
    output = run(clone, "dvc", "push", "new", fails=True, **{**store.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "403" in output
    assert store.keys() == before
    run(clone, "dvc", "push", "new", **store.environment)
    assert len(store.keys()) == len(before) + 1
