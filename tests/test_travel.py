"""Models on their way: pushed from one clone to an S3 server, pulled, imported, registered, served elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest
from ruamel.yaml import YAML

from koner import revisions
from koner.errors import KonerError
from koner.locking import folder_hash
from koner.revisions import fetch_model
from tests.gunicorn_service import ROOT, TEXTS, Service, write_model

pytest.importorskip("moto", reason="the S3 server of this test, moto, isn't installed")
pytest.importorskip("dvc_s3", reason="needs dvc-s3: pip install 'koner[s3]'")
from tests.s3_server import BUCKET, Store

KONER = ("-c", "from koner.cli import main; main()")
FIGURES = {"span": {"f1": 0.5}}


@pytest.fixture(scope="module")
def store():
    with Store() as store:
        yield store


def run(folder, *command, fails=False, **environment):
    """Runs a command of this environment in `folder`; gives what it said."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


class Origin:
    """A repository that others clone, and the clone that its models were made in and pushed from."""

    def __init__(self, folder, store):
        self.folder, self.store, self.address = folder, store, folder / "koner.git"
        self.maker = folder / "maker"
        self.hashes = {}
        self.maker.mkdir()
        self.git(self.maker, "init", "--quiet", "--initial-branch", "main")
        for name in ("name", "email"):
            self.git(self.maker, "config", f"user.{name}", "a@b")
        run(self.maker, "dvc", "init", "--quiet")
        # As the project's own, without the stages before.
        yaml = YAML(typ="safe", pure=True)
        real = yaml.load(ROOT / "dvc.yaml")
        package = {
            "cmd": "false",
            "outs": real["stages"]["package"]["outs"],
            "metrics": [{"metrics/evaluate.json": {"cache": False}}],
        }
        yaml.dump({"stages": {"package": package}, "artifacts": real["artifacts"]}, self.maker / "dvc.yaml")
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
        """Makes a model, pushes it, and registers it as a version."""
        shutil.rmtree(self.maker / "models/ner", ignore_errors=True)
        self.hashes[version] = write_model(self.maker / "models/ner", seed)
        run(self.maker, "dvc", "commit", "--force", "package")
        self.git(self.maker, "add", "--all")
        self.git(self.maker, "commit", "--quiet", "--message", version)
        run(self.maker, "gto", "register", "koner", "--version", version)
        run(self.maker, "dvc", "push", **self.store.environment)
        self.git(self.maker, "push", "--quiet", "--tags", "origin", "main")

    def promote(self, version):
        """Puts a version into production."""
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


def unchanged(clone, origin):
    """Tells whether a clone is as it was made: nothing in the working tree, nothing of a model left anywhere."""
    names = set(os.listdir(origin.maker / "models/ner"))
    left = [path for path in (clone / ".dvc/tmp").rglob("*") if path.is_file() and path.name in names]
    return not left and not (clone / "models/ner").exists() and not origin.git(clone, "status", "--porcelain")


def test_what_one_clone_pushed_another_serves_without_training(origin, clone, store):
    run(clone, "dvc", "pull", **store.environment)
    # This environment in place of the one that `make` would set up.
    for name in ("requirements.lock", "pyproject.toml", "Makefile", "installed"):
        (clone / name).write_text((ROOT / "Makefile").read_text())
    make = ("make", "--no-print-directory", f"VENV={sys.prefix}", "INSTALLED=installed", "serve")
    with Service(clone, "-c", f"import os; os.execvp('make', {make})") as service:
        answer, _ = service.infer(TEXTS[0])
        assert (answer.status, answer.headers["X-Koner-Model"]) == (200, origin.hashes["v2.0.0"])


def test_another_repository_takes_the_model_by_its_name_and_version(origin, tmp_path, store):
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
            told = json.loads(service.get("/version")[1])
            assert told["model"] | {"labels": None} == {
                "hash": origin.hashes[version],
                "pinned": origin.hashes[version],
                "locked": True,
                "labels": None,
            }
            assert told["revision"] == origin.git(clone, "rev-parse", f"{revision}^{{}}")
            assert told["metrics"] == FIGURES
    assert not (clone / "models/ner").exists()
    assert origin.git(clone, "status", "--porcelain") == ""


def test_what_was_fetched_is_kept_and_mended_from_any_folder(origin, clone, store, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    first = fetch_model("koner#prod#1", clone)
    with store.cut((origin.maker / "models/ner/config.json").read_bytes()):
        # By any name: the folder is the commit's.
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
        ("missing", {}, "key does not exist", "neither DVC's cache nor a remote has all of models/ner; run `dvc push`"),
        ("cut", {}, "payload is not completed", "models/ner can't be fetched: Response payload is not completed"),
        ("damaged", {}, "Checkout failed", "models/ner came damaged out of DVC's cache or remote: its hash is "),
    ],
)
def test_what_goes_wrong_is_told_and_changes_nothing(origin, clone, store, fault, environment, pull, serve):
    content = (origin.maker / "models/ner/model.onnx").read_bytes()
    environment = {**store.environment, **environment}
    with getattr(store, fault)(content) if fault else nullcontext():
        (line,) = run(clone, sys.executable, *KONER, "serve", "--rev", "HEAD", fails=True, **environment).splitlines()
        assert line.startswith("koner: HEAD: ")
        assert serve in line
        assert unchanged(clone, origin)
        assert pull in run(clone, "dvc", "pull", fails=True, **environment)
        assert unchanged(clone, origin)


def test_a_revision_that_has_no_model_is_told(clone, origin, tmp_path):
    origin.git(clone, "rm", "--quiet", "dvc.lock")
    origin.git(clone, "commit", "--quiet", "--message", "nothing made yet")
    (tmp_path / "elsewhere").mkdir()
    for folder, revision, sentence in (
        (clone, "HEAD", "HEAD has no dvc.lock that pins models/ner"),
        (clone, "", "the revision's name is empty; name a commit, a branch or a tag"),
        (tmp_path / "elsewhere", "HEAD", "a revision's model is found in a Git repository with DVC, and this folder"),
    ):
        with pytest.raises(KonerError) as raised:
            fetch_model(revision, folder)
        assert str(raised.value).startswith(sentence)
    said = run(clone, sys.executable, *KONER, "serve", "--rev", "nothing", fails=True)
    assert said == "koner: unknown Git revision 'nothing'; `git log` and `git tag` list what can be named\n"
    assert unchanged(clone, origin)


def test_two_that_fetch_the_same_at_once_share_it(origin, clone, store, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    lay_out = revisions._lay_out

    def overtaken(revision, files, to):
        lay_out(revision, files, to)
        shutil.copytree(to, to.parent.parent / to.name)

    monkeypatch.setattr(revisions, "_lay_out", overtaken)
    assert folder_hash(fetch_model("HEAD", clone).root / "models/ner") == origin.hashes["v2.0.0"]


def test_a_push_that_is_refused_changes_nothing(origin, clone, store):
    (clone / "new").write_text("new")
    run(clone, "dvc", "add", "new")
    before = store.keys()
    said = run(clone, "dvc", "push", "new", fails=True, **{**store.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "403" in said
    assert store.keys() == before
    run(clone, "dvc", "push", "new", **store.environment)
    assert len(store.keys()) == len(before) + 1
