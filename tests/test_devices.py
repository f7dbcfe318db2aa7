import os
import signal
import subprocess
import sys

import pytest

from koner.devices import leased_gpu
from koner.errors import KonerError

JOB = """
import os, sys
from koner.devices import leased_gpu
with leased_gpu("job"):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(root, tmp_path):
    """Starts a job that takes one of the GPUs, says which, and keeps it until it is killed or its input ends."""
    jobs = []

    def job(gpus):
        environment = {**os.environ, "KONER_GPUS": gpus, "TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        jobs.append(subprocess.Popen([sys.executable, "-c", JOB], env=environment, **pipes))
        return jobs[-1]

    yield job
    for process in jobs:
        process.kill()
        with process:
            pass


def said(job):
    return job.stdout.readline().strip()


def test_each_job_has_a_gpu_of_its_own_and_the_next_one_waits_for_it(start):
    first, second = start("0,GPU-7f"), start("0,GPU-7f")
    assert {said(first), said(second)} == {"0", "GPU-7f"}
    third = start("0,GPU-7f")
    assert said(third) == "job: waits for one of the GPUs 0, GPU-7f"
    first.stdin.close()
    taken = said(third)
    assert first.wait() == 0
    # A kill frees a GPU, too.
    os.kill(third.pid, signal.SIGKILL)
    third.wait()
    assert said(start("0,GPU-7f")) == taken


def test_a_gpu_that_is_named_twice_takes_two_jobs(start):
    jobs = [start("3,3"), start("3,3")]
    assert [said(job) for job in jobs] == ["3", "3"]
    assert said(start("3")) == "job: waits for one of the GPUs 3"


def test_without_the_variable_nothing_is_chosen(monkeypatch):
    monkeypatch.delenv("KONER_GPUS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with leased_gpu("job") as gpu:
        assert gpu is None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize("gpus", ["", "0,,1", "0 1", "../x"])
def test_what_names_no_gpu_is_one_sentence(monkeypatch, gpus):
    monkeypatch.setenv("KONER_GPUS", gpus)
    with (
        pytest.raises(KonerError, match=r"KONER_GPUS: '.*' is not allowed; it must be GPUs with commas"),
        leased_gpu("job"),
    ):
        pass
