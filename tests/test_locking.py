import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from koner.errors import KonerError
from koner.locking import check_locked, folder_hash, locked_hash, served_facts

DVC_YAML = """
stages:
  make:
    cmd: cp -a source/models source/one.json .
    outs: [models/ner, models/empty, one.json]
"""


def run(folder, *command):
    environment = {
        **os.environ,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A repository in which the real DVC has run a stage and written its lock file."""
    folder = tmp_path_factory.mktemp("repository")
    ner = folder / "source/models/ner"
    # Names that sort otherwise by parts, without regard to case, or by their bytes.
    for name in ("config.json", "a/b", "a-b", "a.b", "A", "Ａ", "😀", '"quoted"', "a/empty/../b2"):
        write(ner, name, name.encode())
    for form in ("NFC", "NFD"):
        write(ner, unicodedata.normalize(form, f"모델/{form}/한국어 사전.txt"), "가나다\r\n라\n".encode())
    write(ner, "large", b"0123456789abcdef" * 200_000)
    write(ner, "empty", b"")
    (ner / "a/empty").mkdir(exist_ok=True)
    write(folder, "source/elsewhere/file", b"elsewhere")
    (ner / "linked file").symlink_to(folder / "source/elsewhere/file")
    (ner / "linked folder").symlink_to(folder / "source/elsewhere")
    write(ner, ".git/config", b"not counted")
    write(ner, "a/.git", b"not counted")
    write(ner, "a/b3/.hg/store", b"not counted")
    write(ner, "a/.hg", b"counted")
    write(ner, ".hidden/file", b"counted")
    (folder / "source/models/empty").mkdir()
    write(folder, "source/one.json", b'{"a":\r\n1}\n')
    write(folder, "dvc.yaml", DVC_YAML.encode())
    run(folder, "dvc", "init", "--no-scm")
    run(folder, "dvc", "repro")
    return folder


@pytest.fixture
def repository(reproduced, tmp_path):
    """A copy of it to change."""
    shutil.copytree(reproduced / "models", tmp_path / "models", symlinks=True)
    shutil.copy(reproduced / "dvc.lock", tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["models/ner", "models/empty", "one.json"])
def test_the_hash_is_the_one_that_dvc_writes(reproduced, path):
    assert folder_hash(reproduced / path) == locked_hash(reproduced / "dvc.lock", path)


def test_the_hash_of_the_served_model(root):
    folder = root / "models/ner"
    if not folder.is_dir():
        pytest.skip("needs models/ner; run `dvc repro`")
    assert folder_hash(folder) == locked_hash(root / "dvc.lock", "models/ner")


def test_what_is_pinned_is_locked(repository):
    model = check_locked(repository, "models/ner")
    assert model.folder == repository / "models/ner"
    assert model.hash == model.pinned == locked_hash(repository / "dvc.lock", "models/ner")
    assert model.locked


@pytest.mark.parametrize("folder", ["models/ner/", "./models/ner", Path("models/../models/ner")])
def test_a_folder_may_be_spelled_in_other_ways(repository, folder):
    assert check_locked(repository, folder).locked
    assert check_locked(repository, repository / folder).locked


def add(ner):
    (ner / "added").write_text("")


def remove(ner):
    (ner / "config.json").unlink()


def change(ner):
    (ner / "config.json").write_text("{}")


def rename(ner):
    (ner / "config.json").rename(ner / "config.yaml")


def empty(ner):
    shutil.rmtree(ner)
    ner.mkdir()


@pytest.mark.parametrize("alter", [add, remove, change, rename, empty])
def test_anything_else_is_refused_unless_allowed(repository, alter):
    pinned = locked_hash(repository / "dvc.lock", "models/ner")
    alter(repository / "models/ner")
    found = folder_hash(repository / "models/ner")
    with pytest.raises(KonerError) as refusal:
        check_locked(repository, "models/ner")
    assert str(refusal.value) == (
        f"models/ner is not what dvc.lock pins: its hash is {found}, the pinned one {pinned}; run `dvc checkout` to "
        "have that one or `dvc repro` to train anew (KONER_ALLOW_UNLOCKED=1 serves models/ner as it is)"
    )
    model = check_locked(repository, "models/ner", allow_unlocked=True)
    assert (model.hash, model.pinned, model.locked) == (found, pinned, False)


@pytest.mark.parametrize("allow_unlocked", [False, True])
def test_a_missing_folder_is_told_with_what_to_run(repository, allow_unlocked):
    shutil.rmtree(repository / "models/ner")
    with pytest.raises(
        KonerError, match=r"^models/ner is missing; run `dvc repro` to train it or `dvc pull` to fetch it$"
    ):
        check_locked(repository, "models/ner", allow_unlocked)


@pytest.mark.parametrize("allow_unlocked", [False, True])
def test_a_link_into_a_cache_that_is_gone_is_told(repository, allow_unlocked):
    (repository / "models/ner/config.json").unlink()
    (repository / "models/ner/config.json").symlink_to(repository / "gone")
    with pytest.raises(KonerError, match=r"models/ner/config\.json can't be read: No such file or directory$"):
        check_locked(repository, "models/ner", allow_unlocked)


@pytest.mark.parametrize(
    ("lock", "sentence"),
    [
        (None, "dvc.lock is missing; run from the root of the repository"),
        ("stages: [", "dvc.lock, line 1: not valid YAML"),
        ("[]", "dvc.lock is no lock file of DVC"),
        ("stages: {make: {outs: [path]}}", "dvc.lock is no lock file of DVC"),
        ("stages: {make: {cmd: make}}", "dvc.lock pins no output 'models/ner'; run `dvc repro`"),
        ("stages: {make: {outs: [{path: models/ner}]}}", "dvc.lock pins no output 'models/ner'; run `dvc repro`"),
    ],
)
def test_a_lock_file_that_pins_nothing_is_told_unless_allowed(repository, lock, sentence):
    (repository / "dvc.lock").unlink()
    if lock is not None:
        (repository / "dvc.lock").write_text(lock)
    with pytest.raises(KonerError) as refusal:
        check_locked(repository, "models/ner")
    assert str(refusal.value).startswith(f"{repository}/{sentence}")
    assert str(refusal.value).endswith(" (KONER_ALLOW_UNLOCKED=1 serves models/ner as it is)")
    model = check_locked(repository, "models/ner", allow_unlocked=True)
    assert (model.pinned, model.locked) == (None, False)


def test_a_lock_file_that_is_a_folder_is_told(repository):
    with pytest.raises(KonerError, match="models can't be read: Is a directory"):
        locked_hash(repository / "models", "models/ner")


def test_paths_count_from_the_lock_file(repository):
    (repository / "elsewhere").mkdir()
    (repository / "dvc.lock").rename(repository / "elsewhere/other.lock")
    (repository / "models").rename(repository / "elsewhere/models")
    assert check_locked(repository, "elsewhere/models/ner", lock="elsewhere/other.lock").locked
    write(repository, "one.json", b"{}")
    with pytest.raises(KonerError, match=r"other\.lock pins no output '\.\./one\.json'"):
        check_locked(repository, "one.json", lock="elsewhere/other.lock")


def test_facts_of_a_checkout(tmp_path):
    folder = tmp_path / "checkout"
    write(folder, "metrics/evaluate.json", '{"span": {"f1": 0.5}, "note": "가"}'.encode())
    run(folder, "git", "init", "--quiet")
    assert served_facts(folder).revision is None
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "A")
    facts = served_facts(folder)
    assert facts.revision == run(folder, "git", "rev-parse", "HEAD").strip()
    assert facts.metrics == {"span": {"f1": 0.5}, "note": "가"}
    # An unpacked copy that lies in someone's repository is not of its revision.
    (folder / "inner").mkdir()
    assert served_facts(folder / "inner").revision is None


def test_facts_outside_git_and_without_git(tmp_path, monkeypatch):
    assert served_facts(tmp_path).revision is None
    assert served_facts(tmp_path).metrics is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert served_facts(tmp_path).revision is None


def test_figures_that_are_not_json_are_told(tmp_path):
    write(tmp_path, "metrics/evaluate.json", b"<<<<<<< HEAD")
    with pytest.raises(KonerError, match=r"metrics/evaluate\.json is not valid JSON: "):
        served_facts(tmp_path)
