"""An input that changes between the plan of a run and its end."""

import gzip
import json
import os
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koner.bulk.addresses import absolute_address
from koner.bulk.folder import Folder
from koner.bulk.plan import check_input, prepare_plan
from koner.bulk.tagging import BlockTagger
from koner.errors import KonerError
from koner.inference.tagger import Tagger
from tests.inference.table_model import write_model

BLOCK_ROWS = 3
CHANGED = r"has changed since the run was planned; give a new folder to tag it as it is now$"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, ["<서울:LC>에 갔다."])
    return folder


def write(path, texts):
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path, row_group_size=BLOCK_ROWS)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        lines = "".join(f"{text}\n" for text in texts).encode()
        path.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)


def replace(path, write_again, keep_time):
    """Replace a file by another one, with the time of the old one if required."""
    before = path.stat()
    write_again(path)
    times = (before.st_atime_ns, before.st_mtime_ns if keep_time else before.st_mtime_ns + 10**9)
    os.utime(path, ns=times)


def plan_of(path, output):
    return prepare_plan(str(path), Folder(absolute_address(str(output))), "hash", block_rows=BLOCK_ROWS)


def tagger_of(plan, output, model):
    return BlockTagger(plan, Folder(absolute_address(str(output))), partial(Tagger.load, model, "cpu"))


TEXTS = [f"{n} 서울" for n in range(9)]
CHANGES = {
    "reordered": TEXTS[6:] + TEXTS[:6],
    "longer": [*TEXTS, "9 서울"],
    "shorter": TEXTS[:8],
    "empty": [],
}


@pytest.mark.parametrize("name", ["in.txt", "in.jsonl", "in.txt.gz", "in.parquet"])
@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("texts", CHANGES.values(), ids=CHANGES)
def test_a_file_that_is_replaced_after_the_first_block_is_named(tmp_path, model, name, keep_time, texts):
    path, output = tmp_path / name, tmp_path / "out"
    write(path, TEXTS)
    plan = plan_of(path, output)
    tag = tagger_of(plan, output, model)
    if name != "in.txt.gz":  # which is one block
        tag(plan.blocks[0])
    replace(path, partial(write, texts=texts), keep_time)
    for block in plan.blocks[-1:]:
        with pytest.raises(KonerError, match=rf"{name} {CHANGED}"):
            tag(block)
    assert len(list(output.glob("part-*"))) == (name != "in.txt.gz")
    assert list((output / "_run/drafts").iterdir()) == []


@pytest.mark.parametrize("name", ["in.txt", "in.parquet"])
def test_a_change_while_a_block_is_read_is_noticed(tmp_path, model, name, monkeypatch):
    path, output = tmp_path / name, tmp_path / "out"
    write(path, TEXTS)
    plan = plan_of(path, output)
    tag = tagger_of(plan, output, model)
    read = type(plan).read

    def read_and_change(self, piece):
        yield from read(self, piece)
        write(path, CHANGES["longer"])

    monkeypatch.setattr(type(plan), "read", read_and_change)
    with pytest.raises(KonerError, match=rf"{name} {CHANGED}"):
        tag(plan.blocks[0])
    assert list(output.glob("part-*")) == []


def test_files_that_are_new_missing_or_changed_at_the_end_are_named(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        write(folder / f"{name}.txt", TEXTS)
    plan = plan_of(folder, tmp_path / "out")
    check_input(plan)
    write(folder / "d.txt", TEXTS)
    with pytest.raises(KonerError, match=rf"d\.txt {CHANGED}"):
        check_input(plan)
    (folder / "d.txt").unlink()
    check_input(plan)
    replace(folder / "b.txt", partial(write, texts=TEXTS), keep_time=False)
    with pytest.raises(KonerError, match=rf"b\.txt {CHANGED}"):
        check_input(plan)
    (folder / "a.txt").unlink()
    with pytest.raises(KonerError, match=rf"a\.txt {CHANGED}"):
        check_input(plan)


def test_a_change_of_the_same_size_and_time_is_noticed_when_a_run_is_resumed(tmp_path, model):
    path, output = tmp_path / "in.txt", tmp_path / "out"
    write(path, TEXTS)
    plan = plan_of(path, output)
    tagger_of(plan, output, model)(plan.blocks[0])
    replace(path, partial(write, texts=CHANGES["reordered"]), keep_time=True)
    resumed = plan_of(path, output)
    assert resumed == plan
    with pytest.raises(KonerError, match=rf"in\.txt {CHANGED}"):
        tagger_of(resumed, output, model)(resumed.blocks[1])


def test_the_target_of_a_link_counts(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(tmp_path / "target", TEXTS)
    (folder / "a.txt").symlink_to(tmp_path / "target")
    plan = plan_of(folder, tmp_path / "out")
    check_input(plan)
    replace(tmp_path / "target", partial(write, texts=CHANGES["reordered"]), keep_time=False)
    with pytest.raises(KonerError, match=rf"a\.txt {CHANGED}"):
        check_input(plan)


@pytest.mark.parametrize("name", ["manifest.json", "plan.parquet", "columns.parquet"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b"PAR1"])
def test_a_damaged_plan_is_reported(tmp_path, name, content):
    path = tmp_path / "in.txt"
    write(path, TEXTS)
    plan_of(path, tmp_path / "out")
    (tmp_path / "out/_run" / name).write_bytes(content)
    with pytest.raises(KonerError, match=rf"_run/{name} can't be read: |holds a run with "):
        plan_of(path, tmp_path / "out")
