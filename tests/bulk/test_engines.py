"""`koner tag --engine` as users run it, with real processes that are killed during their work."""

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

from koner.corpus.inline import parse_inline
from koner.inference.answers import build_answers
from koner.inference.tagger import Tagger
from tests.inference.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다.", "😀 <정부:OG>는 왔다.", ""]
TEXTS = [parse_inline(line)[0] for line in MARKED]
ROWS, MALFORMED_EVERY, BLOCK_ROWS = 2_000, 100, 20
TIMEOUT = 300  # seconds, for a busy machine
NEEDS_RAY = pytest.mark.skipif(not find_spec("ray"), reason="needs Ray: pip install 'koner[ray]'")
# By default Ray runs actors at a low priority, behind the other work of the machine.
RAY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64, "RAY_worker_niceness": "0"}
ENGINES = ["local", pytest.param("ray", marks=NEEDS_RAY)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """JSON lines, every hundredth of them malformed."""
    path = tmp_path_factory.mktemp("corpus") / "in.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(ROWS):
            row = {"id": n, "text": TEXTS[n % len(TEXTS)], "tags": [str(n)]}
            file.write("{wrong\n" if n % MALFORMED_EVERY == 7 else json.dumps(row, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="module")
def expected(model):
    """The expected rows of the output, in order."""
    entities = [tagged.entities for tagged in Tagger.load(model, "cpu").tag_all(TEXTS)]
    results = [answer.model_dump()["result"] for answer in build_answers(TEXTS, entities)]
    assert any(results)
    return [
        {"id": n, "text": TEXTS[n % len(TEXTS)], "tags": [str(n)], "entities": results[n % len(TEXTS)]}
        for n in range(ROWS)
        if n % MALFORMED_EVERY != 7
    ]


def command(engine, model, source, output, *more):
    options = ["--model", str(model), "--device", "cpu", "--workers", "2", "--block-rows", str(BLOCK_ROWS), *more]
    return [
        *(sys.executable, "-c", "from koner.cli.main import main; main()"),
        *("tag", "--engine", engine, *options, str(source), str(output)),
    ]


def start(*arguments, address="local"):
    environment = os.environ | RAY | {"RAY_ADDRESS": address}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell starts background commands with Ctrl-C ignored, and they would inherit that.
    handle_interrupt = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command(*arguments), env=environment, preexec_fn=handle_interrupt, **streams)


@pytest.fixture(scope="module")
def cluster(ray_folder):
    """The address and the process of a Ray cluster of two cores that requires a token, started by `ray start`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
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
    # An orderly shutdown would take long.
    for member in (*psutil.Process(process.pid).children(recursive=True), process):
        with suppress(psutil.Error):
            member.kill()
    process.wait(TIMEOUT)


@pytest.fixture(scope="module", autouse=True)
def ray_folder():
    """A folder for the files of Ray, so that no other program on this machine finds the clusters of the tests."""
    # A short name, because Ray puts sockets there, and their paths have at most 107 bytes.
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        yield


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def start_run(engine, request):
    """A function that starts a run, and returns its process and the ancestor of its workers: itself or the cluster."""
    address, host = request.getfixturevalue("cluster") if engine == "ray" else ("local", None)

    def start_process(*arguments):
        process = start(engine, *arguments, address=address)
        return process, psutil.Process((host or process).pid)

    return start_process


def output_files(output):
    """Return the inodes of the finished output files by name."""
    return {path.name: path.stat().st_ino for path in output.glob("part-*.parquet")}


def wait_until(process, condition):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def workers(host):
    """Return the processes that hold a model."""
    processes = []
    for child in host.children(recursive=True):
        with suppress(psutil.Error):
            line = " ".join(child.cmdline())
            if line.startswith("ray::MapWorker") or "spawn_main" in line:
                processes.append(child)
    return processes


def test_a_run_is_resumed_after_a_worker_and_the_run_are_killed(start_run, model, corpus, expected, tmp_path):
    output = tmp_path / "out"
    process, host = start_run(model, corpus, output)
    wait_until(process, lambda: len(output_files(output)) > 5)
    workers(host)[0].kill()
    before = len(output_files(output))
    wait_until(process, lambda: len(output_files(output)) > before + 10)
    children = workers(host)
    process.kill()
    process.communicate()
    # The workers of a killed run end with it.
    assert children
    assert psutil.wait_procs(children, timeout=TIMEOUT)[1] == []
    done = output_files(output)
    assert 15 < len(done) < ROWS // BLOCK_ROWS

    process, _ = start_run(model, corpus, output)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, stderr
    assert stdout == f"2,000 rows in 100 blocks: 1,980 tagged, 20 rejected to file://{output}/_rejected\n"
    assert done.items() <= output_files(output).items()
    assert pq.read_table(output).to_pylist() == expected
    rejected = pq.read_table(output / "_rejected").to_pylist()
    assert [row["number"] for row in rejected] == list(range(8, ROWS + 1, MALFORMED_EVERY))
    assert {row["row"] for row in rejected} == {"{wrong"}
    assert not (output / "_run/drafts").exists()
    assert len(output_files(output)) == ROWS // BLOCK_ROWS


def test_an_input_that_is_replaced_ends_the_run(start_run, model, corpus, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(corpus.read_bytes())
    time_ = path.stat().st_mtime_ns
    process, _ = start_run(model, path, tmp_path / "out")
    wait_until(process, lambda: len(output_files(tmp_path / "out")) > 1)
    # The same size and time, in another order.
    lines = path.read_bytes().splitlines(keepends=True)
    (tmp_path / "other").write_bytes(b"".join(lines[ROWS // 2 :] + lines[: ROWS // 2]))
    os.utime(tmp_path / "other", ns=(time_, time_))
    (tmp_path / "other").replace(path)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, stderr
    # Ray may report there that an actor was stopped.
    assert not [line for line in stdout.splitlines() if "(raylet)" not in line]
    assert stderr.splitlines()[-1] == (
        f"koner: file://{path} has changed since the run was planned; give a new folder to tag it as it is now"
    )
    assert not (tmp_path / "out/_run/drafts").exists()


def test_a_second_run_into_the_same_folder_is_refused(model, corpus, expected, tmp_path):
    output = tmp_path / "out"
    first = start("local", model, corpus, output)
    wait_until(first, (output / "_run/manifest.json").exists)
    first.send_signal(signal.SIGSTOP)  # so that it does not end before the other one begins
    second = start("local", model, corpus, output)
    stdout, stderr = second.communicate(timeout=TIMEOUT)
    assert (stdout, second.returncode) == ("", 1)
    assert stderr == (f"koner: another run is writing into file://{output}; wait for its end, or give another folder\n")
    first.send_signal(signal.SIGCONT)
    assert "1,980 tagged, 20 rejected" in first.communicate(timeout=TIMEOUT)[0]
    assert pq.read_table(output).to_pylist() == expected


def test_an_error_in_a_worker_ends_the_run_with_its_message(engine, model, corpus, tmp_path):
    broken = tmp_path / "ner"
    broken.mkdir()
    for path in model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes() if path.suffix != ".onnx" else b"none")
    # The engine ray starts a cluster of its own, which ends with the run.
    process = start(engine, broken, corpus, tmp_path / "out")
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert (stdout, process.returncode) == ("", 1), stderr
    assert stderr.splitlines()[-1].startswith(f"koner: {broken}/model.onnx can't be read as an ONNX model")
    assert "Traceback" not in stderr


def test_ctrl_c_ends_a_run_and_its_workers_at_once(start_run, model, corpus, tmp_path):
    process, host = start_run(model, corpus, tmp_path / "out")
    wait_until(process, lambda: len(output_files(tmp_path / "out")) > 0)
    children = workers(host)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert (stdout, process.returncode) == ("", 130)
    assert "Traceback" not in stderr
    assert children
    assert psutil.wait_procs(children, timeout=TIMEOUT)[1] == []


def test_repeated_deaths_of_workers_end_the_run(model, corpus, tmp_path):
    process = start("local", model, corpus, tmp_path / "out", "--block-rows", str(ROWS))
    wait_until(process, (tmp_path / "out/_run/manifest.json").exists)
    temporary_files = tmp_path / "out/_run/drafts"
    for deaths in range(3):
        # The temporary file of each killed worker remains.
        wait_until(process, lambda deaths=deaths: len(list(temporary_files.iterdir())) > deaths)
        for worker in workers(psutil.Process(process.pid)):
            worker.kill()
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert (stdout, process.returncode) == ("", 1)
    assert stderr.splitlines()[-1].startswith("koner: 3 workers in a row were killed before they finished a block; is ")
