"""What engines share: a block tagged and written, and the command as users mistake it."""

import json
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
from koner.bulk.blocks import Block, Piece
from koner.bulk.files import Folder, absolute
from koner.bulk.job import prepare
from koner.bulk.tagging import ENTITY, BlockTagger, Done, ModelChoice
from koner.cli import main
from koner.corpus import parse_inline
from koner.errors import KonerError
from koner.locking import folder_hash
from koner.tagger import Tagger
from tests.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다.", "😀 <정부:OG>는 왔다."]
TEXTS = [parse_inline(line)[0] for line in MARKED]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


def test_a_run_goes_on_with_the_same_model_only(model, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    arguments = ["tag", "--engine", "local", "--device", "cpu", "--workers", "1", str(tmp_path / "in.txt")]
    ended = CliRunner().invoke(main, [*arguments, "--model", str(model), str(tmp_path / "out")])
    assert (ended.exit_code, ended.stdout) == (0, "3 rows in 1 blocks: 3 tagged, 0 put aside\n")
    again = CliRunner().invoke(main, [*arguments, "--model", str(model), str(tmp_path / "out")])
    assert (again.exit_code, again.stdout) == (0, ended.stdout)
    other = tmp_path / "other"
    other.mkdir()
    write_model(other, MARKED[:2])
    refused = CliRunner().invoke(main, [*arguments, "--model", str(other), str(tmp_path / "out")])
    assert refused.exit_code == 1
    assert f"was begun with another model, of the hash {folder_hash(model)}" in refused.output.splitlines()[-1]


def tagger_of(model, source, output, **settings):
    folder = Folder(absolute(str(output)))
    plan = prepare(str(source), folder, "hash", **settings)
    return plan, BlockTagger(plan, folder.address, partial(Tagger.load, model, "cpu"))


@pytest.mark.parametrize("format_", ["parquet", "jsonl", "text"])
def test_every_format_gives_its_columns_and_the_nested_entities(model, tmp_path, format_):
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
    assert [tag(block) for block in plan.blocks] == [Done(0, 2, 0), Done(1, 1, 0)]
    found = pq.read_table(tmp_path / "out")
    assert found.schema.field("entities").type == pa.list_(ENTITY)
    words = [[(e["entity_group"], e["word"]) for e in row.pop("entities")] for row in found.to_pylist()]
    assert words == [
        [("PS", "홍길동"), ("DT", "지난해"), ("LC", "서울")],
        [("OG", "R&D"), ("QT", "3명")],
        [("OG", "정부")],
    ]
    assert found.drop(["entities"]).to_pylist() == rows


def test_an_input_is_read_over_http_and_an_output_need_not_be_files(model, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/in.txt"
        plan, tag = tagger_of(model, address, "memory://koner-tagged", min_score=0.5, labels=["LC"], offsets="utf16")
        assert tag(plan.blocks[0]) == Done(0, 3, 0)
        server.shutdown()
    with Folder("memory://koner-tagged").reading("part-00000.parquet") as file:
        rows = pq.read_table(file).to_pylist()
    assert [(row["text"], [e["word"] for e in row["entities"]]) for row in rows] == [
        (TEXTS[0], ["서울"]),
        (TEXTS[1], []),
        (TEXTS[2], []),
    ]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_block_that_is_there_is_not_tagged_again(model, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "가"}\n{\n', encoding="utf-8")
    plan, tag = tagger_of(model, path, tmp_path / "out")
    assert tag(plan.blocks[0]) == Done(0, 1, 1)
    path.unlink()
    assert tag(plan.blocks[0]) == Done(0, 1, 1)
    with pytest.raises(KonerError, match=r"in\.jsonl can't be read: there is no such file"):
        tag(Block(1, plan.blocks[0].pieces))
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == ["part-00000.parquet"]


def test_an_input_that_became_shorter_is_told_and_leaves_nothing_half_done(model, tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("가\n나\n", encoding="utf-8")
    _, tag = tagger_of(model, path, tmp_path / "out")
    with pytest.raises(KonerError, match="it has changed while it was read"):
        tag(Block(0, (Piece(f"file://{path}", 0, 3),)))
    assert list((tmp_path / "out").glob("part-*")) == []


def test_a_model_that_changes_in_the_middle_of_a_run_is_told(model, tmp_path):
    with pytest.raises(KonerError, match="has changed since the run began"):
        ModelChoice(model, "another", "cpu").load()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engine", "local", "in"], "--engine takes INPUT and OUTPUT"),
        (["--engine", "local", "in", "out", "-f", "x"], "--engine takes INPUT and OUTPUT"),
        (["--engine", "local", "in", "out", "--format", "table"], "--engine takes INPUT and OUTPUT"),
        (["--workers", "2", "in"], "--workers needs --engine"),
        (["--block-rows", "2", "in"], "--block-rows needs --engine"),
    ],
)
def test_options_that_do_not_go_together_are_told(arguments, told):
    ended = CliRunner().invoke(main, ["tag", *arguments])
    assert ended.exit_code == 2
    assert told in ended.stderr


def test_without_ray_one_sentence_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["--engine", "ray", "--model", str(model), "in.jsonl", str(tmp_path / "out")]
    ended = CliRunner().invoke(main, ["tag", *arguments])
    assert (ended.exit_code, ended.output.splitlines()) == (
        1,
        ["koner: --engine ray needs Ray: pip install 'koner[ray]' (--engine local does the same on one machine)"],
    )
    assert not (tmp_path / "out").exists()


def test_actors_that_die_over_a_block_again_and_again_end_the_run(model, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("가\n", encoding="utf-8")
    folder = Folder(absolute(str(tmp_path / "out")))
    plan = prepare(str(tmp_path / "in.txt"), folder, "hash")
    begun = ray_data._Begun()
    # What Ray does between an actor and another.
    begun.again = SimpleNamespace(remote=begun.again)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    actor = ray_data._Actor(plan, folder.address, ModelChoice(model, folder_hash(model)), {}, begun)
    monkeypatch.setattr(actor, "_tag", lambda block: Done(block.number, 1, 0))
    batch = {"block": [plan.blocks[0].to_json()]}
    assert [actor(batch)["fault"] for _ in range(3)] == [[""]] * 3
    assert actor(batch)["fault"][0].startswith("3 actors in turn were killed over part-00000.parquet")


@pytest.mark.parametrize(
    ("nodes", "threads", "actors"),
    [([2, 7], 2, 4), ([0, 3], 1, 3), ([1, 1], 2, None)],
)
def test_actors_are_as_many_as_the_nodes_have_room_for(nodes, threads, actors):
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": {"CPU": float(cpus)}} for cpus in nodes])
    if actors:
        assert ray_data._room(ray, threads) == actors
    else:
        with pytest.raises(KonerError, match=r"no node of the Ray cluster has 2 cores \(--threads\)"):
            ray_data._room(ray, threads)


def test_files_that_workers_wrote_elsewhere_are_missed(model, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("가\n", encoding="utf-8")
    monkeypatch.setattr(run.local, "run", lambda plan, blocks, *_, **__: (Done(b.number, b.rows, 0) for b in blocks))
    arguments = ["--engine", "local", "--model", str(model), str(tmp_path / "in.txt"), str(tmp_path / "out")]
    ended = CliRunner().invoke(main, ["tag", *arguments])
    assert ended.exit_code == 1
    assert ended.output.strip().endswith(
        "/out are not there, part-00000.parquet the first; is it a place that every worker reaches?"
    )
