"""`koner tag --engine` as users run it: real processes, killed where it hurts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from threading import Thread

import psutil
import pyarrow.parquet as pq
import pytest

from koner.answers import answer
from koner.corpus import parse_inline
from koner.tagger import Tagger
from tests.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다.", "😀 <정부:OG>는 왔다.", ""]
TEXTS = [parse_inline(line)[0] for line in MARKED]
ROWS, EVERY, BLOCK_ROWS = 2_000, 100, 20
PATIENCE = 300  # seconds, of a machine that may be busy
NEEDS_RAY = pytest.mark.skipif(not find_spec("ray"), reason="needs Ray: pip install 'koner[ray]'")
# Ray runs actors at the least priority: behind whatever else the machine does.
RAY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64, "RAY_worker_niceness": "0"}
ENGINES = ["local", pytest.param("ray", marks=NEEDS_RAY)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """JSON lines of which every hundredth is none."""
    path = tmp_path_factory.mktemp("corpus") / "in.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(ROWS):
            row = {"id": n, "text": TEXTS[n % len(TEXTS)], "tags": [str(n)]}
            file.write("{wrong\n" if n % EVERY == 7 else json.dumps(row, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="module")
def expected(model):
    """The rows of the output, in order."""
    found = [answer(t, e)["result"] for t, e in zip(TEXTS, Tagger.load(model, "cpu").tag_all(TEXTS), strict=True)]
    assert any(found)
    return [
        {"id": n, "text": TEXTS[n % len(TEXTS)], "tags": [str(n)], "entities": found[n % len(TEXTS)]}
        for n in range(ROWS)
        if n % EVERY != 7
    ]


def command(engine, model, source, output, *more):
    options = ["--model", str(model), "--device", "cpu", "--workers", "2", "--block-rows", str(BLOCK_ROWS), *more]
    return [
        *(sys.executable, "-c", "from koner.cli import main; main()"),
        *("tag", "--engine", engine, *options, str(source), str(output)),
    ]


def start(*arguments, address="local"):
    environment = os.environ | RAY | {"RAY_ADDRESS": address}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # In the background a shell starts commands that don't hear Ctrl-C.
    listen = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command(*arguments), env=environment, preexec_fn=listen, **streams)


@pytest.fixture(scope="module")
def cluster(apart):
    """A cluster of Ray with two cores that asks for its token, as `ray start` makes one: its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *options],
        env=os.environ | RAY | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    assert process.poll() is None
    Thread(target=process.stdout.read, daemon=True).start()
    yield f"127.0.0.1:{port}", process
    # By itself it would take its time.
    for member in (*psutil.Process(process.pid).children(recursive=True), process):
        with suppress(psutil.Error):
            member.kill()
    process.wait(PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def apart():
    """A folder for what Ray notes of its clusters, so that nobody else on this machine finds those of the tests."""
    # Of a short name: Ray puts sockets into it, and those have 107 bytes.
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        yield


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def begin(engine, request):
    """Starts a run, and gives what its workers descend from too: the run itself, or the cluster that it joins."""
    address, host = request.getfixturevalue("cluster") if engine == "ray" else ("local", None)

    def begun(*arguments):
        process = start(engine, *arguments, address=address)
        return process, psutil.Process((host or process).pid)

    return begun


def parts(output):
    return {path.name: path.stat().st_ino for path in output.glob("part-*.parquet")}


def until(process, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def workers(host):
    """The processes that hold the model."""
    found = []
    for child in host.children(recursive=True):
        with suppress(psutil.Error):
            line = " ".join(child.cmdline())
            if line.startswith("ray::MapWorker") or "spawn_main" in line:
                found.append(child)
    return found


def test_a_killed_worker_and_a_killed_run_lose_nothing_and_repeat_nothing(begin, model, corpus, expected, tmp_path):
    output = tmp_path / "out"
    process, host = begin(model, corpus, output)
    until(process, lambda: len(parts(output)) > 5)
    workers(host)[0].kill()
    before = len(parts(output))
    until(process, lambda: len(parts(output)) > before + 10)
    family = workers(host)
    process.kill()
    process.communicate()
    # What a killed run started ends with it.
    assert family
    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
    done = parts(output)
    assert 15 < len(done) < ROWS // BLOCK_ROWS

    process, _ = begin(model, corpus, output)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert stdout == f"2,000 rows in 100 blocks: 1,980 tagged, 20 put aside in file://{output}/_rejected\n"
    assert done.items() <= parts(output).items()
    assert pq.read_table(output).to_pylist() == expected
    aside = pq.read_table(output / "_rejected").to_pylist()
    assert [row["number"] for row in aside] == list(range(8, ROWS + 1, EVERY))
    assert {row["row"] for row in aside} == {"{wrong"}
    assert not (output / "_run/drafts").exists()
    assert len(parts(output)) == ROWS // BLOCK_ROWS


def test_a_fault_of_a_worker_ends_the_run_in_a_sentence(engine, model, corpus, tmp_path):
    broken = tmp_path / "ner"
    broken.mkdir()
    for path in model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes() if path.suffix != ".onnx" else b"none")
    # On Ray with a cluster of its own, which ends with it.
    process = start(engine, broken, corpus, tmp_path / "out")
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (stdout, process.returncode) == ("", 1), stderr
    assert stderr.splitlines()[-1].startswith(f"koner: {broken}/model.onnx can't be read as an ONNX model")
    assert "Traceback" not in stderr


def test_ctrl_c_ends_a_run_at_once_and_its_workers_too(begin, model, corpus, tmp_path):
    process, host = begin(model, corpus, tmp_path / "out")
    until(process, lambda: len(parts(tmp_path / "out")) > 0)
    family = workers(host)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (stdout, process.returncode) == ("", 130)
    assert "Traceback" not in stderr
    assert family
    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []


def test_workers_that_die_over_a_block_again_and_again_end_the_run(model, corpus, tmp_path):
    process = start("local", model, corpus, tmp_path / "out", "--block-rows", str(ROWS))
    until(process, (tmp_path / "out/_run/manifest.json").exists)
    drafts = tmp_path / "out/_run/drafts"
    for deaths in range(3):
        # What each began stays behind.
        until(process, lambda deaths=deaths: len(list(drafts.iterdir())) > deaths)
        for worker in workers(psutil.Process(process.pid)):
            worker.kill()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (stdout, process.returncode) == ("", 1)
    assert stderr.splitlines()[-1].startswith("koner: 3 workers in turn were killed before they had done a block; is ")
