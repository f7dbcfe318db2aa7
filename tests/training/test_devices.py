import os
import signal
import subprocess
import sys

import pytest

from koner.errors import KonerError
from koner.training.devices import lease_gpus

JOB = """
import logging, os, sys
from koner.training.devices import lease_gpus
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
with lease_gpus("job", int(sys.argv[1])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(root, tmp_path):
    """Start jobs that lease GPUs, print them, and keep them until they are killed or their input ends."""
    jobs = []

    def job(gpus, count=1):
        environment = {**os.environ, "KONER_GPUS": gpus, "TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        jobs.append(subprocess.Popen([sys.executable, "-c", JOB, str(count)], env=environment, **pipes))
        return jobs[-1]

    yield job
    for process in jobs:
        process.kill()
        with process:
            pass


def next_line(job):
    return job.stdout.readline().strip()


def test_each_job_gets_its_own_gpu_and_the_next_one_waits(start):
    first, second = start("0,GPU-7f"), start("0,GPU-7f")
    assert {next_line(first), next_line(second)} == {"0", "GPU-7f"}
    third = start("0,GPU-7f")
    assert next_line(third) == "job: waiting for 1 of the GPUs 0, GPU-7f"
    first.stdin.close()
    gpu = next_line(third)
    assert first.wait() == 0
    # A killed job releases its GPU, too.
    os.kill(third.pid, signal.SIGKILL)
    third.wait()
    assert next_line(start("0,GPU-7f")) == gpu


def test_a_gpu_that_is_listed_twice_serves_two_jobs(start):
    jobs = [start("3,3"), start("3,3")]
    assert [next_line(job) for job in jobs] == ["3", "3"]
    assert next_line(start("3")) == "job: waiting for 1 of the GPUs 3"


def test_a_job_of_several_gpus_waits_until_as_many_are_free(start):
    first = start("0,0,1,2", 2)
    assert next_line(first) == "0,1"
    both = start("1,2", 2)
    assert next_line(both) == "job: waiting for 2 of the GPUs 1, 2"
    # A job that is waiting for several GPUs keeps none of them.
    single = start("2")
    assert next_line(single) == "2"
    first.stdin.close()
    single.stdin.close()
    assert next_line(both) == "1,2"


def test_more_processes_than_gpus_are_an_error(monkeypatch):
    monkeypatch.setenv("KONER_GPUS", "0,0,1")
    with pytest.raises(KonerError, match="'0,0,1' names fewer GPUs than the 3 processes need"), lease_gpus("job", 3):
        pass


def test_without_the_variable_all_gpus_stay_visible(monkeypatch):
    monkeypatch.delenv("KONER_GPUS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with lease_gpus("job") as gpus:
        assert gpus == []
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize("gpus", ["", "0,,1", "0 1", "../x"])
def test_a_value_that_lists_no_gpus_is_an_error(monkeypatch, gpus):
    monkeypatch.setenv("KONER_GPUS", gpus)
    with (
        pytest.raises(KonerError, match=r"KONER_GPUS: '.*' is not allowed; it must be GPUs with commas"),
        lease_gpus("job"),
    ):
        pass
