"""Distributed training, in real processes on the CPU."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch.utils.data import BatchSampler
from transformers import AutoModelForTokenClassification

from koner.corpus.label_files import LABELS_FILE, write_labels
from koner.encoder.base_model import prepare_base_model
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.params import load_params
from koner.storage.parquet import write_rows
from koner.tokens.alignment import ALIGNED_SCHEMA, aligned_to_row
from koner.training.distributed import process_group
from koner.training.launcher import RENDEZVOUS, launch
from koner.training.trainer import FullBatchSampler
from tests.training.distributed_worker import aligned_parts, run, sentences

ROOT = Path(__file__).parents[2]
# The processes add float32 values in another order.
TOLERANCE = 1e-5
SMALL = {"base_model": "scratch", "layers": 2, "hidden_size": 32, "heads": 2, "vocab_min_count": 1, "precision": "fp32"}
TRAINED = {"batch_size": 8, "epochs": 3, "patience": 0, "lr": 1e-3, "augment": 0}


@pytest.fixture(scope="module")
def setting(root, tmp_path_factory):
    params = load_params(root / "params.yaml").model_copy(update={**SMALL, **TRAINED})
    base = tmp_path_factory.mktemp("base") / "base"
    prepare_base_model(params, list(sentences(43)), base)
    return params, base


@pytest.fixture(scope="module")
def start(root):
    """Start Python in a folder."""
    processes = []

    def make(folder, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield make
    for process in processes:
        process.kill()


# What a stage does, without the imports that only its processes need.
LAUNCH = """
from koner.training.launcher import launch
from koner.errors import exit_on_error

with exit_on_error():
    launch({!r}, {}, {})
"""


@pytest.fixture(scope="module")
def train_together(setting, start):
    """Train in two processes with changes of the setting; return exit status, standard output and standard error."""
    params, base = setting

    def make(folder, *runs):
        if not (folder / "base").exists():
            (folder / "base").symlink_to(base)
        values = [(params.model_copy(update={"processes": 2, **changes}).model_dump(), end) for changes, end in runs]
        (folder / "runs.json").write_text(json.dumps(values))
        process = start(folder, "-c", LAUNCH.format("tests.training.distributed_worker", 2, 1))
        output, error = process.communicate(timeout=600)
        return process.returncode, output, error

    return make


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


# Both ways of batching, early stopping, and sharding with a resumed checkpoint.
RUNS = [
    ({"batching": "packed"}, None),
    ({"batching": "padded"}, None),
    ({"batching": "padded", "patience": 1, "lr": 1e-9}, None),
    ({"batching": "packed", "sharding": "fsdp", "keep_checkpoints": 1}, "stop"),
]


KILLED = len(RUNS) + 1


@pytest.fixture(scope="module")
def together(train_together, tmp_path_factory):
    """The folder in which two processes performed `RUNS`, a run with dropout, and the same with one process killed."""
    folder = tmp_path_factory.mktemp("together")
    status, output, error = train_together(
        folder, *(({"dropout": 0.0, **changes}, end) for changes, end in RUNS), ({}, None), ({}, "kill")
    )
    assert status == 1
    assert error == (
        "koner: process 1 was ended by SIGKILL; "
        "the others were stopped, and the same command resumes from the last checkpoint\n"
    )
    assert output.count("resuming from") == 1
    return folder


def read_report(folder, rank=0):
    return json.loads((folder / f"report-{rank}.json").read_text())


@pytest.fixture
def one_thread():
    """Small models train more slowly with several threads, above all if other programs use the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("i", range(len(RUNS)))
def test_two_processes_perform_the_updates_of_one(setting, together, tmp_path, i):
    """Without dropout, since every process masks other units."""
    params, base = setting
    alone = params.model_copy(update={"dropout": 0.0, **RUNS[i][0], "sharding": "none"})
    expected = run(alone, base, tmp_path)
    assert len(expected) == (2 if alone.patience else 3)
    for row, distributed_row in zip(expected, read_report(together)["histories"][i], strict=True):
        assert distributed_row == pytest.approx(row, abs=TOLERANCE)
    a, b = weights(tmp_path), weights(together / str(i))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=TOLERANCE, rtol=0)
    assert list((together / str(i) / "checkpoints").iterdir()) == []


def test_all_processes_return_the_same_history(together):
    assert read_report(together, 1)["histories"] == read_report(together)["histories"]


def test_a_sharded_model_is_written_whole(together):
    model = AutoModelForTokenClassification.from_pretrained(together / "3" / "model")
    assert model.get_input_embeddings().weight.shape == (model.config.vocab_size, 32)


def test_processes_with_other_values_or_folders_raise_an_error(together):
    assert read_report(together)["errors"] == [
        "data of process 1 differs from that of process 0: all machines need the same commit and data",
        "machine-0 of process 1 differs from that of process 0: "
        "the project must be in a folder that all machines share",
        None,
        None,
    ]


def test_a_run_resumes_after_one_process_is_killed(train_together, together, tmp_path):
    """With dropout: each process restores the state of its random numbers."""
    uninterrupted, killed = together / str(KILLED - 1), together / str(KILLED)
    assert not (killed / "model").exists()
    assert (killed / "checkpoints" / "run" / "checkpoint-6" / "trainer_state.json").exists()
    killed.rename(tmp_path / "0")
    status, output, error = train_together(tmp_path, ({}, None))
    assert (status, output.count("resuming from 0/checkpoints/run/checkpoint-6")) == (0, 1), error
    assert read_report(tmp_path)["histories"] == [read_report(together)["histories"][KILLED - 1]]
    a, b = weights(uninterrupted), weights(tmp_path / "0")
    assert all(torch.equal(a[name], b[name]) for name in a)


def prepare_stage(folder, setting, **changes):
    """Write what the stage reads to a folder: parameters, base model and parts."""
    params, base = setting
    params = params.model_copy(update=changes)
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params.model_dump(), file)
    # The files of the project from which the stage reads the pinned versions of packages.
    (folder / "dvc.yaml").symlink_to(ROOT / "dvc.yaml")
    (folder / "stages").mkdir()
    (folder / "stages" / "versions.yaml").symlink_to(ROOT / "stages" / "versions.yaml")
    (folder / "models").mkdir()
    (folder / "models" / "base").symlink_to(base)
    for part, sentences_ in zip(("train", "development"), aligned_parts(params, base), strict=True):
        write_rows(folder / "data" / "split" / f"{part}.parquet", map(aligned_to_row, sentences_), ALIGNED_SCHEMA)
    write_labels(folder / "data" / "corpus" / LABELS_FILE, KLUE)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_two_machines_train_one_model(setting, start, tmp_path):
    """Two launchers, as on two machines with a shared folder, write one set of outputs."""
    prepare_stage(tmp_path, setting, machines=2)
    address = {RENDEZVOUS: f"127.0.0.1:{free_port()}"}
    commands = (["-m", "stages.train"], ["-c", LAUNCH.format("stages.train", 1, 2)])
    machines = [start(tmp_path, *command, **address) for command in commands]
    outputs = [machine.communicate(timeout=600) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"base", "checkpoints", "trained"}
    figures = json.loads((tmp_path / "metrics" / "train.json").read_text())
    assert figures["epochs"] == 3
    assert len((tmp_path / "plots" / "train" / "epochs.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("KonerError('lr: too high')", r"koner: lr: too high\n"),
        (
            "ValueError('a fault of the code')",
            r"(?s).*Traceback .*ValueError: a fault of the code\n"
            r"koner: process [01] failed with status 1, for the reason above; the others were stopped\n",
        ),
        (
            "RuntimeError('[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]')",
            r"koner: process [01] lost contact with another; the same command resumes from the last checkpoint\n",
        ),
    ],
)
def test_an_error_in_every_process_is_reported_once(start, tmp_path, raised, message):
    (tmp_path / "faulty.py").write_text(
        "from koner.training.distributed import process_group\nfrom koner.errors import KonerError, exit_on_error\n"
        f"with exit_on_error(), process_group(2):\n    raise {raised}\n"
    )
    process = start(tmp_path, "-c", LAUNCH.format("faulty", 2, 1))
    error = process.communicate(timeout=600)[1]
    assert re.fullmatch(message, error), error
    assert process.returncode == 1


def test_sharding_needs_gpus(setting, tmp_path):
    params, base = setting
    with pytest.raises(KonerError, match="sharding: 'fsdp' needs a GPU for each process"):
        run(params.model_copy(update={"sharding": "fsdp"}), base, tmp_path)


def test_processes_exit_if_their_launcher_is_killed(start, tmp_path):
    (tmp_path / "waiting.py").write_text(
        "import time\nfrom pathlib import Path\nfrom koner.training.distributed import process_group, rank\n"
        "with process_group(2):\n    Path(f'joined-{rank()}').touch()\n    time.sleep(600)\n"
    )
    launcher = start(tmp_path, "-c", LAUNCH.format("waiting", 2, 1))
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("joined-*"))) < 2:
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes = psutil.Process(launcher.pid).children()
    assert len(processes) == 2
    os.kill(launcher.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "machines: 2 need the address of the first of them in the environment variable KONER_RENDEZVOUS"),
        ("node1", "it is 'node1'"),
        ("node1:0", "it is 'node1:0'"),
        ("nowhere.invalid:29500", "KONER_RENDEZVOUS: nowhere.invalid can't be reached: "),
    ],
)
def test_several_machines_need_an_address(monkeypatch, address, message):
    monkeypatch.setenv(RENDEZVOUS, address)
    with pytest.raises(KonerError, match=message):
        launch("stages.train", 1, 2)


def test_more_processes_than_gpus_are_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(KonerError, match="processes: 4 is not allowed: this machine has 2 GPUs"):
        launch("stages.train", 4)


def test_another_launcher_must_start_the_number_of_processes_in_the_parameters(monkeypatch):
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KonerError, match="processes: 4 were started"), process_group(1):
        pass


@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 3))
def test_processes_split_each_batch_and_blanks_fill_up_the_last(count, share, processes):
    batches = list(BatchSampler(range(count), share * processes, drop_last=False))
    full = FullBatchSampler(range(count), share * processes, drop_last=False)
    parts = [list(BatchSamplerShard(full, processes, rank, split_batches=True)) for rank in range(processes)]
    assert [len(part) for part in parts] == [len(batches)] * processes
    for i, batch in enumerate(batches):
        assert [len(part[i]) for part in parts] == [share] * processes
        assert [window for part in parts for window in part[i] if window is not None] == batch
