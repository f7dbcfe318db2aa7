import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from koner.errors import KonerError
from koner.release.hashing import folder_hash
from koner.release.locking import check_locked, locked_hash, served_facts

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
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A repository in which DVC has run a stage and written its lock file."""
    folder = tmp_path_factory.mktemp("repository")
    ner = folder / "source/models/ner"
    # Sorting by path components, ignoring case or by bytes would give another order of these names.
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
    """A copy of that repository, to be changed by a test."""
    shutil.copytree(reproduced / "models", tmp_path / "models", symlinks=True)
    shutil.copy(reproduced / "dvc.lock", tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["models/ner", "models/empty", "one.json"])
def test_folder_hash_equals_the_hash_in_dvc_lock(reproduced, path):
    assert folder_hash(reproduced / path) == locked_hash(reproduced / "dvc.lock", path)


def test_folder_hash_of_the_project_s_model(root):
    folder = root / "models/ner"
    if not folder.is_dir():
        pytest.skip("needs models/ner; run `dvc repro`")
    assert folder_hash(folder) == locked_hash(root / "dvc.lock", "models/ner")


def test_a_pinned_model_is_locked(repository):
    model = check_locked(repository, "models/ner")
    assert model.path == repository / "models/ner"
    assert model.hash == model.pinned_hash == locked_hash(repository / "dvc.lock", "models/ner")
    assert model.is_locked


@pytest.mark.parametrize("folder", ["models/ner/", "./models/ner", Path("models/../models/ner")])
def test_equivalent_paths_of_the_folder_are_accepted(repository, folder):
    assert check_locked(repository, folder).is_locked
    assert check_locked(repository, repository / folder).is_locked


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
def test_a_changed_model_is_refused_unless_allowed(repository, alter):
    pinned_hash = locked_hash(repository / "dvc.lock", "models/ner")
    alter(repository / "models/ner")
    changed_hash = folder_hash(repository / "models/ner")
    with pytest.raises(KonerError) as error:
        check_locked(repository, "models/ner")
    assert str(error.value) == (
        f"models/ner is not the model that dvc.lock pins: its hash is {changed_hash}, the pinned hash is "
        f"{pinned_hash}; run `dvc checkout` to restore the pinned model or `dvc repro` to train it again "
        "(KONER_ALLOW_UNLOCKED=1 serves models/ner as it is)"
    )
    model = check_locked(repository, "models/ner", allow_unlocked=True)
    assert (model.hash, model.pinned_hash, model.is_locked) == (changed_hash, pinned_hash, False)


@pytest.mark.parametrize("allow_unlocked", [False, True])
def test_a_missing_folder_raises_an_error_with_the_commands_to_run(repository, allow_unlocked):
    shutil.rmtree(repository / "models/ner")
    with pytest.raises(
        KonerError, match=r"^models/ner is missing; run `dvc repro` to train it or `dvc pull` to fetch it$"
    ):
        check_locked(repository, "models/ner", allow_unlocked)


@pytest.mark.parametrize("allow_unlocked", [False, True])
def test_a_broken_symbolic_link_is_reported(repository, allow_unlocked):
    (repository / "models/ner/config.json").unlink()
    (repository / "models/ner/config.json").symlink_to(repository / "gone")
    with pytest.raises(KonerError, match=r"models/ner/config\.json cannot be read: No such file or directory$"):
        check_locked(repository, "models/ner", allow_unlocked)


@pytest.mark.parametrize(
    ("lock", "sentence"),
    [
        (None, "dvc.lock is missing; run from the root of the repository"),
        ("stages: [", "dvc.lock, line 1: not valid YAML"),
        ("[]", "dvc.lock is not a lock file of DVC"),
        ("stages: {make: {outs: [path]}}", "dvc.lock is not a lock file of DVC"),
        ("stages: {make: {cmd: make}}", "dvc.lock does not pin the output 'models/ner'; run `dvc repro`"),
        ("stages: {make: {outs: [{path: models/ner}]}}", "dvc.lock does not pin the output 'models/ner'"),
        (
            "stages: {make: {outs: [{path: models/ner, md5: [a]}]}}",
            "dvc.lock: the md5 of the output ",
        ),
        ("stages: {make: {outs: [{path: [a]}]}}", "dvc.lock is not a lock file of DVC"),
        ("made: 2024-99-99", "dvc.lock, line 1: not valid YAML: "),
        ("made: !!int x", "dvc.lock, line 1: not valid YAML: "),
        (f"made: {'9' * 5000}", "dvc.lock, line 1: not valid YAML: "),
        ("[" * 3000, "dvc.lock: not valid YAML: it is nested too deeply"),
        (" " * (5 * 2**20), "dvc.lock has more than the 4,194,304 bytes"),
    ],
)
def test_an_invalid_lock_file_is_refused_unless_allowed(repository, lock, sentence):
    (repository / "dvc.lock").unlink()
    if lock is not None:
        (repository / "dvc.lock").write_text(lock)
    with pytest.raises(KonerError) as error:
        check_locked(repository, "models/ner")
    assert str(error.value).startswith(f"{repository}/{sentence}")
    assert str(error.value).endswith(" (KONER_ALLOW_UNLOCKED=1 serves models/ner as it is)")
    model = check_locked(repository, "models/ner", allow_unlocked=True)
    assert (model.pinned_hash, model.is_locked) == (None, False)


@pytest.mark.parametrize("path", ["dvc.lock", "models/ner/config.json", "models/ner/added"])
def test_a_named_pipe_is_refused_without_waiting_for_content(repository, path):
    (repository / path).unlink(missing_ok=True)
    os.mkfifo(repository / path)
    with pytest.raises(KonerError, match=f"{path} is not a regular file"):
        check_locked(repository, "models/ner")


def test_a_device_is_refused(repository):
    (repository / "models/ner/added").symlink_to("/dev/zero")
    with pytest.raises(KonerError, match="models/ner/added is not a regular file"):
        check_locked(repository, "models/ner")


def test_a_folder_in_place_of_the_lock_file_is_reported(repository):
    with pytest.raises(KonerError, match="models can't be read: Is a directory"):
        locked_hash(repository / "models", "models/ner")


def test_output_paths_are_relative_to_the_lock_file(repository):
    (repository / "elsewhere").mkdir()
    (repository / "dvc.lock").rename(repository / "elsewhere/other.lock")
    (repository / "models").rename(repository / "elsewhere/models")
    assert check_locked(repository, "elsewhere/models/ner", lock="elsewhere/other.lock").is_locked
    write(repository, "one.json", b"{}")
    with pytest.raises(KonerError, match=r"other\.lock does not pin the output '\.\./one\.json'"):
        check_locked(repository, "one.json", lock="elsewhere/other.lock")


def test_served_facts_of_a_checkout(tmp_path):
    folder = tmp_path / "checkout"
    lock = folder / "dvc.lock"
    write(folder, "metrics/evaluate.json", '{"span": {"f1": 0.5}, "note": "가"}'.encode())
    write(folder, "dvc.lock", b"stages: {}")
    run(folder, "git", "init", "--quiet")
    assert served_facts(lock).revision is None
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "A")
    facts = served_facts(lock)
    assert facts.revision == run(folder, "git", "rev-parse", "HEAD").strip()
    assert facts.metrics == {"span": {"f1": 0.5}, "note": "가"}
    # A copy without history inside another repository does not have its revision.
    write(folder, "inner/dvc.lock", b"stages: {}")
    assert served_facts(folder / "inner/dvc.lock").revision is None


def test_served_facts_outside_git_and_without_git(tmp_path, monkeypatch):
    write(tmp_path, "dvc.lock", b"stages: {}")
    assert served_facts(tmp_path / "dvc.lock").revision is None
    assert served_facts(tmp_path / "dvc.lock").metrics is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert served_facts(tmp_path / "dvc.lock").revision is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<<<<<<< HEAD", "is not valid JSON: "),
        (b"\xff", "is not valid JSON: "),
        (b"[" * 100_000, "is not valid JSON: maximum recursion depth exceeded"),
        (b"[]", "is not a JSON object"),
        (b" " * (5 * 2**20), "has more than the 4,194,304 bytes that are read of such a file"),
    ],
)
def test_metrics_that_are_not_a_json_object_raise_an_error(tmp_path, content, sentence):
    write(tmp_path, "metrics/evaluate.json", content)
    with pytest.raises(KonerError, match=rf"metrics/evaluate\.json {sentence}"):
        served_facts(tmp_path / "dvc.lock")
