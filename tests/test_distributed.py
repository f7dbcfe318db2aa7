"""Training in several processes: real ones, on the CPU."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from koner import sharing
from koner.alignment import RETAGGED_SCHEMA, retagged_to_row
from koner.base_model import prepare_base_model
from koner.distributed import RENDEZVOUS, joined, launch
from koner.errors import KonerError
from koner.params import load_params
from koner.parquet import write_rows
from tests.distributed_worker import retagged, run, sentences

# Float32 sums in another order.
TOLERANCE = 1e-5
SMALL = {"base_model": "scratch", "layers": 2, "hidden_size": 32, "heads": 2, "vocab_min_count": 1, "precision": "fp32"}
TRAINED = {"batch_size": 8, "epochs": 3, "patience": 0, "lr": 1e-3, "augment": 0}
REGULARIZED = {"label_smoothing": 0.1, "layer_decay": 0.8}


@pytest.fixture(scope="module")
def setting(root, tmp_path_factory):
    params = load_params(root / "params.yaml").model_copy(update={**SMALL, **TRAINED})
    base = tmp_path_factory.mktemp("base") / "base"
    prepare_base_model(params, list(sentences(43)), base)
    return params, base


@pytest.fixture(scope="module")
def start(root):
    """Starts Python in a folder."""
    started = []

    def make(folder, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()


# As a stage does, but without what only its processes need to import.
LAUNCH = """
from koner.distributed import launch
from koner.errors import told_plainly

with told_plainly():
    launch({!r}, {}, {})
"""


@pytest.fixture(scope="module")
def train_together(setting, start):
    """Trains in two processes what differs from the setting; gives the ended command and what it said."""
    params, base = setting

    def make(folder, *runs):
        if not (folder / "base").exists():
            (folder / "base").symlink_to(base)
        values = [(params.model_copy(update={"processes": 2, **changes}).model_dump(), end) for changes, end in runs]
        (folder / "runs.json").write_text(json.dumps(values))
        process = start(folder, "-c", LAUNCH.format("tests.distributed_worker", 2, 1))
        output, error = process.communicate(timeout=600)
        return process.returncode, output, error

    return make


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


# All ways of batching, all that regularizes, an early stop, and sharding with a resumed checkpoint.
RUNS = [
    ({"batching": "packed"}, None),
    ({"batching": "padded", "boundaries": True, **REGULARIZED}, None),
    ({"batching": "padded", "patience": 1, "lr": 1e-9}, None),
    ({"batching": "packed", "sharding": "fsdp", "keep_checkpoints": 1, **REGULARIZED}, "stop"),
]


KILLED = len(RUNS) + 1


@pytest.fixture(scope="module")
def together(train_together, tmp_path_factory):
    """A folder of what two processes gave: the runs, one with dropout, and that one again, in which one is killed."""
    folder = tmp_path_factory.mktemp("together")
    status, output, error = train_together(
        folder, *(({"dropout": 0.0, **changes}, end) for changes, end in RUNS), ({}, None), ({}, "kill")
    )
    assert status == 1
    assert error == (
        "koner: process 1 was ended by SIGKILL; "
        "the others were stopped, and the same command goes on from the last checkpoint\n"
    )
    assert output.count("goes on from") == 1
    return folder


def told(folder, rank=0):
    return json.loads((folder / f"told-{rank}.json").read_text())


@pytest.fixture
def one_thread():
    """Small models are slower on several, and much slower where others use the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("i", range(len(RUNS)))
def test_two_processes_take_the_steps_that_one_takes(setting, together, tmp_path, i):
    """Without dropout, of which every process draws its own."""
    params, base = setting
    alone = params.model_copy(update={"dropout": 0.0, **RUNS[i][0], "sharding": "none"})
    expected = run(alone, base, tmp_path)
    assert len(expected) == (2 if alone.patience else 3)
    for row, found in zip(expected, told(together)["histories"][i], strict=True):
        assert found == pytest.approx(row, abs=TOLERANCE)
    a, b = weights(tmp_path), weights(together / str(i))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=TOLERANCE, rtol=0)
    assert list((together / str(i) / "checkpoints").iterdir()) == []


def test_all_processes_have_the_figures_that_one_writes(together):
    assert told(together, 1)["histories"] == told(together)["histories"]


def test_a_sharded_model_is_written_whole(together):
    model = AutoModelForTokenClassification.from_pretrained(together / "3" / "model")
    assert model.get_input_embeddings().weight.shape == (model.config.vocab_size, 32)


def test_processes_that_differ_are_told_what_in(together):
    assert told(together)["refused"] == [
        "data of process 1 is not that of process 0: all machines need the same commit and data",
        "machine-0 of process 1 is not that of process 0: the project must lie in a folder that all machines share",
        None,
        None,
    ]


def test_a_run_goes_on_after_one_process_is_killed(train_together, together, tmp_path):
    """With dropout: each process goes on in the random stream that it was in."""
    unbroken, killed = together / str(KILLED - 1), together / str(KILLED)
    assert not (killed / "model").exists()
    assert (killed / "checkpoints" / "run" / "checkpoint-6" / "trainer_state.json").exists()
    killed.rename(tmp_path / "0")
    status, output, error = train_together(tmp_path, ({}, None))
    assert (status, output.count("goes on from 0/checkpoints/run/checkpoint-6")) == (0, 1), error
    assert told(tmp_path)["histories"] == [told(together)["histories"][KILLED - 1]]
    a, b = weights(unbroken), weights(tmp_path / "0")
    assert all(torch.equal(a[name], b[name]) for name in a)


def stage(folder, setting, **changes):
    """A folder in which the stage can train: parameters, base model and parts."""
    params, base = setting
    params = params.model_copy(update=changes)
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params.model_dump(), file)
    (folder / "models").mkdir()
    (folder / "models" / "base").symlink_to(base)
    for part, found in zip(("train", "development"), retagged(params, base), strict=True):
        write_rows(folder / "data" / "split" / f"{part}.parquet", map(retagged_to_row, found), RETAGGED_SCHEMA)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_two_machines_train_one_model(setting, start, tmp_path):
    """Two launchers, as on two machines with a shared folder, give one set of outputs."""
    stage(tmp_path, setting, machines=2)
    address = {RENDEZVOUS: f"127.0.0.1:{free_port()}"}
    commands = (["-m", "stages.train"], ["-c", LAUNCH.format("stages.train", 1, 2)])
    machines = [start(tmp_path, *command, **address) for command in commands]
    said = [machine.communicate(timeout=600) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"base", "checkpoints", "trained"}
    figures = json.loads((tmp_path / "metrics" / "train.json").read_text())
    assert figures["epochs"] == 3
    assert len((tmp_path / "plots" / "train" / "epochs.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("KonerError('lr: too high')", r"koner: lr: too high\n"),
        (
            "ValueError('a fault of the code')",
            r"(?s).*Traceback .*ValueError: a fault of the code\n"
            r"koner: process [01] failed with status 1, as told above; the others were stopped\n",
        ),
        (
            "RuntimeError('[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]')",
            r"koner: process [01] lost contact with another; the same command goes on from the last checkpoint\n",
        ),
    ],
)
def test_a_fault_in_every_process_is_told_once(start, tmp_path, raised, said):
    (tmp_path / "faulty.py").write_text(
        "from koner.distributed import joined\nfrom koner.errors import KonerError, told_plainly\n"
        f"with told_plainly(), joined(2):\n    raise {raised}\n"
    )
    process = start(tmp_path, "-c", LAUNCH.format("faulty", 2, 1))
    error = process.communicate(timeout=600)[1]
    assert re.fullmatch(said, error), error
    assert process.returncode == 1


def test_sharding_needs_gpus(setting, tmp_path):
    params, base = setting
    with pytest.raises(KonerError, match="sharding: 'fsdp' needs a GPU for each process"):
        run(params.model_copy(update={"sharding": "fsdp"}), base, tmp_path)


def test_processes_end_with_a_launcher_that_is_killed(start, tmp_path):
    (tmp_path / "waiting.py").write_text(
        "import time\nfrom pathlib import Path\nfrom koner.distributed import joined, rank\n"
        "with joined(2):\n    Path(f'joined-{rank()}').touch()\n    time.sleep(600)\n"
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
    ("address", "said"),
    [
        ("", "machines: 2 need the address of the first of them in the environment variable KONER_RENDEZVOUS"),
        ("node1", "it is 'node1'"),
        ("node1:0", "it is 'node1:0'"),
        ("nowhere.invalid:29500", "KONER_RENDEZVOUS: nowhere.invalid can't be reached: "),
    ],
)
def test_several_machines_need_an_address(monkeypatch, address, said):
    monkeypatch.setenv(RENDEZVOUS, address)
    with pytest.raises(KonerError, match=said):
        launch("stages.train", 1, 2)


def test_no_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(KonerError, match="processes: 4 is not allowed: this machine has 2 GPUs"):
        launch("stages.train", 4)


def test_another_launcher_must_start_as_many_as_the_parameters_say(monkeypatch):
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KonerError, match="processes: 4 were started"), joined(1):
        pass


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=9), max_size=5), st.integers(1, 4))
def test_shares_are_the_batches_in_equal_numbers(drawn, processes):
    shares = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "world", lambda: processes)
        for i in range(processes):
            patch.setattr(sharing, "rank", partial(int, i))
            shares.append(list(sharing.BatchShares(drawn)))
    for i, batch in enumerate(drawn):
        found = [share[i] for share in shares]
        assert len({len(share) for share in found}) == 1
        assert sorted(w for share in found for w in share if w is not None) == sorted(batch)
        assert len(found[0]) == -(-len(batch) // processes)
