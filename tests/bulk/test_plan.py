import pytest

from koner.bulk.addresses import absolute_address
from koner.bulk.files import find_corpus_files
from koner.bulk.folder import Folder
from koner.bulk.plan import prepare_plan
from koner.errors import KonerError
from tests.bulk.corpus import read_corpus


def test_files_of_a_folder_are_sorted_and_hidden_files_ignored(tmp_path):
    for name in ("b.jsonl", "a/c.jsonl.gz", "_run/x.jsonl", "a/.y.jsonl", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    format_, files = find_corpus_files(str(tmp_path), None)
    assert format_ == "jsonl"
    assert [f.address for f in files] == [f"file://{tmp_path}/{name}" for name in ("a/c.jsonl.gz", "b.jsonl")]
    assert [f.address for f in find_corpus_files(f"{tmp_path}/*.md", "text")[1]] == [f"file://{tmp_path}/README.md"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.parquet", b"PAR", r".*in\.parquet can't be read: .*"),
        ("in.parquet.gz", b"", r".* is a compressed Parquet file.*"),
        ("in.csv", b"a", r".*: the extension does not name the format; give --input-format.*"),
        ("in.txt", b"", r".*in\.txt has no rows"),
        (
            "in.jsonl",
            b'{"body": 1}\n[]',
            r"none of the first 2 lines .* has a field 'text'; they have body.*",
        ),
        ("in.jsonl", b'{"text": "a", "text": "b"}', r"none .* the first one: .*duplicate key.*"),
        ("in.jsonl", b"id,text\n1,a\n", r"none .* the first one: .*JSON.*"),
        ("in.jsonl", b'{"text": "a", "entities": []}', r"the input already has a column 'entities'.*--into"),
    ],
)
def test_an_unusable_input_is_reported(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KonerError, match=f"^{message}$"):
        read_corpus(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out/_run/manifest.json").exists()


def test_an_unusable_address_is_reported(tmp_path):
    with pytest.raises(KonerError, match=r"none can't be read: the file or folder does not exist$"):
        find_corpus_files(str(tmp_path / "none"), None)
    with pytest.raises(KonerError, match=r"holds no jsonl file$"):
        find_corpus_files(str(tmp_path), "jsonl")
    with pytest.raises(KonerError, match=r"^nowhere://x can't be read: Protocol not known: nowhere"):
        absolute_address("nowhere://x")
    with pytest.raises(KonerError, match="give an OUTPUT outside it"):
        prepare_plan(str(tmp_path), Folder(absolute_address(str(tmp_path / "out"))), "hash")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_rows": 3}, r"holds a run with block_rows 2, not 3; give a new folder$"),
        ({"min_score": 0.5}, r"holds a run with min_score 0\.0, not 0\.5; give a new folder$"),
        (
            {"model": "other"},
            r"another model \(its hash is hash, .* is other\); give a new folder$",
        ),
        ({"lines": "가\n나\n다라\n"}, r"holds a run with an input that has changed since; give a new folder$"),
        ({}, None),
    ],
)
def test_a_run_is_resumed_with_the_same_manifest_only(tmp_path, change, message):
    path, folder = tmp_path / "in.txt", Folder(absolute_address(str(tmp_path / "out")))
    path.write_text("가\n나\n다\n")
    plan = prepare_plan(str(path), folder, "hash", block_rows=2)
    settings = {"block_rows": 2, "model": "hash"} | change
    if lines := settings.pop("lines", None):
        path.write_text(lines)
    if message is None:
        assert prepare_plan(str(path), folder, **settings) == plan
        return
    with pytest.raises(KonerError, match=message):
        prepare_plan(str(path), folder, **settings)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "in.txt").write_text("가\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/part-00000.parquet").touch()
    with pytest.raises(KonerError, match="is not empty and holds no run of koner; give a new folder"):
        prepare_plan(str(tmp_path / "in.txt"), Folder(absolute_address(str(tmp_path / "out"))), "hash")


def test_writes_are_atomic(tmp_path):
    folder = Folder(absolute_address(str(tmp_path)))
    with pytest.raises(TypeError), folder.open_to_write("a/b") as file:
        file.write(b"half" + None)
    assert not folder.has("a/b")
    with folder.open_to_write("a/b") as file:
        file.write(b"whole")
        assert not folder.has("a/b")
    assert (tmp_path / "a/b").read_bytes() == b"whole"
    assert not any((tmp_path / "_run/drafts").iterdir())
