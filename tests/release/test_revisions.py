"""The model of a revision, with damaged and hostile content in DVC's cache, in a repository of real Git and DVC."""

import hashlib
import json
import shutil

import pytest

from koner.errors import KonerError
from koner.release.hashing import file_md5, folder_hash
from koner.release.locking import check_locked, locked_hash, served_facts
from koner.release.revisions import fetch_model
from tests.release.test_locking import run, write

DVC_YAML = """
stages:
  package:
    cmd: mkdir -p models && cp -r source models/ner
    deps: [source]
    outs: [models/ner]
"""


def commit(folder, message):
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository whose model was made by `dvc repro`, on the branch `main` and its twin `workspace`."""
    folder = tmp_path_factory.mktemp("made")
    write(folder, "source/config.json", b"config")
    write(folder, "source/deeper/weights", b"weights")
    write(folder, "dvc.yaml", DVC_YAML.encode())
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "dvc", "init", "--quiet")
    run(folder, "dvc", "repro", "--quiet")
    commit(folder, "a model")
    run(folder, "git", "branch", "workspace")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "tag", "--annotate", "--message", "a", "v1")
    return folder


@pytest.fixture
def repository(made, tmp_path):
    """A copy of that repository, to be changed by a test."""
    return shutil.copytree(made, tmp_path / "repository", symlinks=True)


def object_path(repository, hash_):
    return repository / ".dvc/cache/files/md5" / hash_[:2] / hash_[2:]


def overwrite(path, content):
    """Change an object of DVC's cache as an edit through a hard link does; it is write-protected again."""
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def error_of(repository, revision="HEAD"):
    with pytest.raises(KonerError) as error:
        fetch_model(revision, repository)
    assert not list((repository / ".dvc/tmp").rglob("draft-*"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["main", "v1", "@", "HEAD@{0}", "refs/heads/workspace", "short", "upper", "tag"])
def test_every_name_of_a_commit_is_resolved(repository, name):
    head = run(repository, "git", "rev-parse", "HEAD").strip()
    special = {"short": head[:7], "upper": head.upper(), "tag": run(repository, "git", "rev-parse", "v1").strip()}
    model = fetch_model(special.get(name, name), repository)
    assert (model.commit, model.root.name) == (head, head)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "workspace",
            "'workspace' is not a revision but the files on disk, which are served without a revision; a branch",
        ),
        ("HEAD^{tree}", "'HEAD^{tree}' is not a commit; name a commit, a branch, a tag or a DVC experiment"),
        ("HEAD:dvc.lock", "'HEAD:dvc.lock' is not a commit; name a commit, "),
        ("--all", "unknown Git revision '--all'; "),
        ("HEAD..HEAD", "unknown Git revision 'HEAD..HEAD'; "),
        ("index", "unknown Git revision 'index'; "),
        ("HEAD\n", "'HEAD\\n' cannot name a revision: a name has at most 250 characters, all printable"),
        ("a\0b", "'a\\x00b' cannot name a revision: "),
        ("\udc80", "'\\udc80' cannot name a revision: "),
        ("x" * 5000, f"'{'x' * 40}' cannot name a revision: "),
    ],
)
def test_a_name_that_is_no_commit_is_refused(repository, name, sentence):
    assert error_of(repository, name).startswith(sentence)
    assert not (repository / ".dvc/tmp/koner").exists()


@pytest.mark.parametrize(
    ("lock", "sentence"),
    [
        (None, "HEAD has no dvc.lock, so it pins no model"),
        ("stages: {}", "HEAD: dvc.lock does not pin the output 'models/ner'; run `dvc repro`"),
        ("stages: {a: {outs: [{path: models/ner, md5: 2024-99-99}]}}", "HEAD: dvc.lock, line 1: not valid YAML: "),
        (
            "stages: {a: {outs: [{path: models/ner, md5: ../../etc}]}}",
            "HEAD: dvc.lock: the md5 of the output 'models/ner'",
        ),
    ],
)
def test_a_revision_whose_lock_pins_no_model_is_refused(repository, lock, sentence):
    (repository / "dvc.lock").unlink()
    if lock:
        write(repository, "dvc.lock", lock.encode())
    commit(repository, "another lock")
    assert error_of(repository).startswith(sentence)


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


WEIGHTS = md5(b"weights")


def entry(path, md5=WEIGHTS):
    return [{"md5": md5, "relpath": path}]


@pytest.mark.parametrize("is_consistent", [False, True])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[" * 100_000, "is not valid: it is not a list of files as DVC writes it"),
        (b"null", "is not valid: it is not a list"),
        (b"\xff\xfe", "is not valid: it is not a list"),
        (b"[{}]", "is not valid: it is not a list"),
        (b" " * (17 * 2**20), "is not valid: "),
        (entry("weights", 5), "is not valid: it is not a list"),
        (entry("weights", "../../../../../secret"), "is not valid: it is not a list"),
        (
            entry("../../../../escaped"),
            "is not valid: it names the file '../../../../escaped', which is not in the folder",
        ),
        (entry("/tmp/escaped"), "is not valid: it names the file '/tmp/escaped', which is not in the folder"),  # noqa: S108
        (entry("a/../b"), "is not valid: it names the file 'a/../b'"),
        (entry(""), "is not valid: it names the file ''"),
        (entry("a\0b"), "is not valid: it names the file 'a\\x00b'"),
        (entry("a") + entry("a"), "is not one that DVC writes"),
        (entry("a") + entry("a/b"), "models/ner cannot be fetched: "),
        (entry(".git/config"), "is not one that DVC writes"),
        (entry("x" * 5000), "models/ner cannot be fetched: "),
    ],
)
def test_a_hostile_list_of_files_is_refused_and_leaves_nothing(repository, content, sentence, is_consistent):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    hash_ = locked_hash(repository / "dvc.lock", "models/ner")
    good = object_path(repository, hash_).read_bytes()
    if is_consistent:
        new = f"{md5(content)}.dir"
        write(repository, f".dvc/cache/files/md5/{new[:2]}/{new[2:]}", content)
        (repository / "dvc.lock").write_text((repository / "dvc.lock").read_text().replace(hash_, new))
        commit(repository, "a hostile list")
        assert sentence in error_of(repository)
    else:
        overwrite(object_path(repository, hash_), content)
        assert error_of(repository).startswith("HEAD: the list of files of models/ner is damaged in ")
    assert not list(repository.parent.rglob("escaped"))
    if not is_consistent:
        # Nothing of it is remembered.
        overwrite(object_path(repository, hash_), good)
        assert folder_hash(fetch_model("HEAD", repository).root / "models/ner") == hash_


def test_a_damaged_object_is_taken_from_the_remote(repository, tmp_path):
    run(repository, "dvc", "remote", "add", "--default", "near", str(tmp_path / "remote"))
    run(repository, "dvc", "push")
    commit(repository, "a remote")
    damaged = object_path(repository, file_md5(repository / "models/ner/config.json"))
    overwrite(damaged, b"damaged")
    model = fetch_model("HEAD", repository)
    assert folder_hash(model.root / "models/ner") == locked_hash(repository / "dvc.lock", "models/ner")
    shutil.rmtree(model.root)
    shutil.rmtree(tmp_path / "remote")
    assert error_of(repository).startswith(
        f"HEAD: models/ner/config.json is damaged in DVC's cache or remote; delete {damaged}, then run `dvc push`"
    )


@pytest.mark.parametrize("name", ["config.json", "the list"])
@pytest.mark.parametrize("has_remote", [False, True])
def test_the_advice_for_a_damaged_cache_mends_it(repository, tmp_path, monkeypatch, name, has_remote):
    monkeypatch.chdir(repository)
    pinned_hash = locked_hash(repository / "dvc.lock", "models/ner")
    if has_remote:
        run(repository, "dvc", "remote", "add", "--default", "near", str(tmp_path / "remote"))
        run(repository, "dvc", "push")
    damaged = object_path(repository, pinned_hash if name == "the list" else file_md5(repository / "models/ner" / name))
    content = damaged.read_bytes()
    overwrite(damaged, content.replace(b"weights", b"../weights") if name == "the list" else b"damaged")
    shutil.rmtree(repository / "models/ner")
    if name == "the list":
        write(repository, "models/ner/config.json", b"another")
    else:
        # DVC takes the damaged object and finds nothing wrong.
        run(repository, "dvc", "checkout")
        assert (repository / "models/ner/config.json").read_bytes() == b"damaged"
        assert "up to date" in run(repository, "dvc", "status")
    with pytest.raises(KonerError) as error:
        check_locked(repository, "models/ner")
    path = damaged.relative_to(repository)
    assert (
        "; DVC's cache holds a damaged object, which `dvc checkout` does not notice: run "
        f"`rm -rf {path} models/ner`, and then `dvc pull` or, without a remote, `dvc repro` (KONER" in str(error.value)
    )
    _, _, _, remove, _, pull, _, repro, *_ = str(error.value).split("`")
    run(repository, "sh", "-c", f"{remove} && {pull if has_remote else repro}")
    assert check_locked(repository, "models/ner").hash == pinned_hash
    assert damaged.read_bytes() == content


def test_the_revision_is_that_of_the_lock_file(repository):
    head = run(repository, "git", "rev-parse", "HEAD").strip()
    assert served_facts(repository / "dvc.lock").revision == head
    write(repository, "source/config.json", b"another")
    run(repository, "dvc", "repro", "--quiet")
    # The commit that is checked out pins another model.
    assert served_facts(repository / "dvc.lock").revision is None
    commit(repository, "another model")
    assert served_facts(repository / "dvc.lock").revision == run(repository, "git", "rev-parse", "HEAD").strip() != head
