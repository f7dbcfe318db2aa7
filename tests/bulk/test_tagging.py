"""The parts that engines share, and misuse of the command."""

import copy
import json
import resource
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from koner.bulk import ray_data, run
from koner.bulk.addresses import absolute_address
from koner.bulk.blocks import Block
from koner.bulk.folder import Folder
from koner.bulk.plan import prepare_plan
from koner.bulk.tagging import ENTITY, BlockResult, BlockTagger, ModelSpec
from koner.cli.main import main
from koner.corpus.inline import parse_inline
from koner.errors import KonerError
from koner.inference.tagger import Tagger
from koner.release.hashing import folder_hash
from tests.inference.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다.", "😀 <정부:OG>는 왔다."]
TEXTS = [parse_inline(line)[0] for line in MARKED]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


def test_a_run_is_resumed_with_the_same_model_only(model, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    arguments = ["tag", "--engine", "local", "--device", "cpu", "--workers", "1", str(tmp_path / "in.txt")]
    result = CliRunner().invoke(main, [*arguments, "--model", str(model), str(tmp_path / "out")])
    assert (result.exit_code, result.stdout) == (0, "3 rows in 1 blocks: 3 tagged, 0 rejected\n")
    again = CliRunner().invoke(main, [*arguments, "--model", str(model), str(tmp_path / "out")])
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    other = tmp_path / "other"
    other.mkdir()
    write_model(other, MARKED[:2])
    refused = CliRunner().invoke(main, [*arguments, "--model", str(other), str(tmp_path / "out")])
    assert refused.exit_code == 1
    assert f"holds a run with another model (its hash is {folder_hash(model)}," in refused.output.splitlines()[-1]


def tagger_of(model, source, output, **settings):
    folder = Folder(absolute_address(str(output)))
    plan = prepare_plan(str(source), folder, "hash", **settings)
    return plan, BlockTagger(plan, folder, partial(Tagger.load, model, "cpu"))


@pytest.mark.parametrize("format_", ["parquet", "jsonl", "text"])
def test_the_output_has_the_input_columns_and_nested_entities(model, tmp_path, format_):
    path = tmp_path / f"in.{format_}"
    rows = [
        {"text": text} | ({"id": i, "tags": ["a"] * i} if format_ != "text" else {}) for i, text in enumerate(TEXTS)
    ]
    if format_ == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif format_ == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        path.write_text("\n".join(TEXTS), encoding="utf-8")
    plan, tag = tagger_of(model, path, tmp_path / "out", block_rows=2, input_format=format_)
    assert [tag(block) for block in plan.blocks] == [BlockResult(0, 2, 0), BlockResult(1, 1, 0)]
    table = pq.read_table(tmp_path / "out")
    assert table.schema.field("entities").type == pa.list_(ENTITY)
    words = [[(e["entity_group"], e["word"]) for e in row["entities"]] for row in table.to_pylist()]
    assert words == [
        [("PS", "홍길동"), ("DT", "지난해"), ("LC", "서울")],
        [("OG", "R&D"), ("QT", "3명")],
        [("OG", "정부")],
    ]
    assert table.drop(["entities"]).to_pylist() == rows


def test_addresses_of_http_and_of_memory(model, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/in.txt"
        plan, tag = tagger_of(model, address, "memory://koner-tagged", min_score=0.5, labels=["LC"], offsets="utf16")
        assert tag(plan.blocks[0]) == BlockResult(0, 3, 0)
        server.shutdown()
    with Folder("memory://koner-tagged").open_to_read("part-00000.parquet") as file:
        rows = pq.read_table(file).to_pylist()
    assert [(row["text"], [e["word"] for e in row["entities"]]) for row in rows] == [
        (TEXTS[0], ["서울"]),
        (TEXTS[1], []),
        (TEXTS[2], []),
    ]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_finished_block_is_not_tagged_again(model, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "가"}\n{\n', encoding="utf-8")
    plan, tag = tagger_of(model, path, tmp_path / "out")
    assert tag(plan.blocks[0]) == BlockResult(0, 1, 1)
    path.unlink()
    assert tag(plan.blocks[0]) == BlockResult(0, 1, 1)
    with pytest.raises(KonerError, match=r"in\.jsonl can't be read: the file or folder does not exist"):
        tag(Block(1, plan.blocks[0].pieces))
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == ["part-00000.parquet"]


def test_an_input_that_became_shorter_is_reported_and_leaves_no_incomplete_file(model, tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("가\n나\n", encoding="utf-8")
    plan, tag = tagger_of(model, path, tmp_path / "out")
    path.write_text("가\n", encoding="utf-8")
    with pytest.raises(KonerError, match=r"in\.txt has changed since the run was planned"):
        tag(plan.blocks[0])
    assert list((tmp_path / "out").glob("part-*")) == []


def test_a_full_disk_leaves_no_incomplete_file(model, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"text": "가", "x": "{n**30}"}}\n' for n in range(100)), encoding="utf-8")
    plan, tag = tagger_of(model, path, tmp_path / "out")
    tag._tagger = Tagger.load(model, "cpu")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(KonerError, match=r"part-00000\.parquet can't be written: File too large$"):
            tag(plan.blocks[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "out").glob("part-*")) == list((tmp_path / "out/_run/drafts").iterdir()) == []
    assert tag(plan.blocks[0]) == BlockResult(0, 100, 0)


def plan_none(folder):
    with folder.lock():
        assert (folder.has("_run/lock"), folder.names()) == (True, {"_run"})
        prepare_plan("none", folder, "hash")


def test_a_run_that_cannot_be_planned_leaves_nothing(tmp_path):
    with pytest.raises(KonerError, match="none can't be read"):
        plan_none(Folder(absolute_address(str(tmp_path / "a/b/out"))))
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_in_a_folder_is_refused(tmp_path):
    address = absolute_address(str(tmp_path / "out"))
    with (
        Folder(address).lock(),
        pytest.raises(KonerError, match=r"^another run is writing into file://.*/out; wait for its end"),
        Folder(address).lock(),
    ):
        pass
    with Folder(address).lock():
        assert (tmp_path / "out/_run/lock").exists()


def test_runs_keep_the_temporary_files_of_each_other_where_there_is_no_lock():
    first, second = (Folder("memory://koner-drafts") for _ in range(2))
    with second.lock(), second.open_to_write("file") as file:
        with first.lock():
            first.remove_temporary_files()
        file.write(b"1")
    assert second.names("_run/drafts") == set()


def test_a_worker_that_outlives_its_run_writes_nothing(tmp_path):
    folder = Folder(absolute_address(str(tmp_path)))
    with folder.lock():
        folder_of_worker = copy.copy(folder)
        with folder_of_worker.open_to_write("finished") as file:
            file.write(b"1")
        with folder_of_worker.open_to_write("_run/manifest.json") as file:
            file.write(b"{}")
        late = folder_of_worker.open_to_write("late")
        late.__enter__().write(b"1")
    with pytest.raises(KonerError, match="late can't be written"):
        late.__exit__(None, None, None)
    with pytest.raises(KonerError, match="later can't be written"), folder_of_worker.open_to_write("later"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["_run", "finished", "lock", "manifest.json"]


def test_a_model_that_changes_during_a_run_is_reported(model, tmp_path):
    with pytest.raises(KonerError, match="has changed since the run started"):
        ModelSpec(model, "another", "cpu").load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "local", "in"], "--engine takes INPUT and OUTPUT"),
        (["--engine", "local", "in", "out", "-f", "x"], "--engine takes INPUT and OUTPUT"),
        (["--engine", "local", "in", "out", "--format", "table"], "--engine takes INPUT and OUTPUT"),
        (["--workers", "2", "in"], "--workers needs --engine"),
        (["--block-rows", "2", "in"], "--block-rows needs --engine"),
    ],
)
def test_incompatible_options_are_reported(arguments, message):
    result = CliRunner().invoke(main, ["tag", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_ray_is_reported_with_the_command_to_install_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["--engine", "ray", "--model", str(model), "in.jsonl", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["tag", *arguments])
    assert (result.exit_code, result.output.splitlines()) == (
        1,
        ["koner: --engine ray needs Ray: pip install 'koner[ray]' (--engine local does the same on one machine)"],
    )
    assert not (tmp_path / "out").exists()


def test_repeated_deaths_of_actors_over_a_block_end_the_run(model, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("가\n", encoding="utf-8")
    folder = Folder(absolute_address(str(tmp_path / "out")))
    plan = prepare_plan(str(tmp_path / "in.txt"), folder, "hash")
    attempts = ray_data._AttemptCounter()
    # Ray calls the method of another actor by `remote`.
    attempts.increment = SimpleNamespace(remote=attempts.increment)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    actor = ray_data._Actor(plan, folder, ModelSpec(model, folder_hash(model)), {}, attempts)
    monkeypatch.setattr(actor, "_tag", lambda block: BlockResult(block.number, 1, 0))
    batch = {"block": [plan.blocks[0].to_json()]}
    assert [actor(batch)["error"] for _ in range(3)] == [[""]] * 3
    assert actor(batch)["error"][0].startswith("3 actors in a row were killed over part-00000.parquet")


@pytest.mark.parametrize(
    ("nodes", "threads", "actors"),
    [([2, 7], 2, 4), ([0, 3], 1, 3), ([1, 1], 2, None)],
)
def test_the_number_of_actors_that_the_nodes_have_room_for(nodes, threads, actors):
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": {"CPU": float(cpus)}} for cpus in nodes])
    if actors:
        assert ray_data._count_actor_slots(ray, threads) == actors
    else:
        with pytest.raises(KonerError, match=r"no node of the Ray cluster has 2 cores \(--threads\)"):
            ray_data._count_actor_slots(ray, threads)


def test_output_files_that_are_missing_are_reported(model, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("가\n", encoding="utf-8")
    monkeypatch.setattr(
        run.local, "run", lambda plan, blocks, *_, **__: (BlockResult(b.number, b.rows, 0) for b in blocks)
    )
    arguments = ["--engine", "local", "--model", str(model), str(tmp_path / "in.txt"), str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["tag", *arguments])
    assert result.exit_code == 1
    assert result.output.strip().endswith(
        "/out are missing, the first is part-00000.parquet; is the folder on storage that every worker reaches?"
    )
