import os
import signal
import subprocess
import sys

import pytest

from koner.devices import leased_gpus
from koner.errors import KonerError

JOB = """
import os, sys
from koner.devices import leased_gpus
with leased_gpus("job", int(sys.argv[1])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(root, tmp_path):
    """Starts a job that takes one of the GPUs, says which, and keeps it until it is killed or its input ends."""
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


def said(job):
    return job.stdout.readline().strip()


def test_each_job_has_a_gpu_of_its_own_and_the_next_one_waits_for_it(start):
    first, second = start("0,GPU-7f"), start("0,GPU-7f")
    assert {said(first), said(second)} == {"0", "GPU-7f"}
    third = start("0,GPU-7f")
    assert said(third) == "job: waits for 1 of the GPUs 0, GPU-7f"
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
    assert said(start("3")) == "job: waits for 1 of the GPUs 3"


def test_a_job_of_several_gpus_waits_until_as_many_are_free(start):
    first = start("0,0,1,2", 2)
    assert said(first) == "0,1"
    both = start("1,2", 2)
    assert said(both) == "job: waits for 2 of the GPUs 1, 2"
    # What waits for more keeps none of them meanwhile.
    single = start("2")
    assert said(single) == "2"
    first.stdin.close()
    single.stdin.close()
    assert said(both) == "1,2"


def test_more_processes_than_gpus_are_one_sentence(monkeypatch):
    monkeypatch.setenv("KONER_GPUS", "0,0,1")
    with pytest.raises(KonerError, match="'0,0,1' names fewer GPUs than the 3 processes need"), leased_gpus("job", 3):
        pass


def test_without_the_variable_nothing_is_chosen(monkeypatch):
    monkeypatch.delenv("KONER_GPUS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with leased_gpus("job") as gpus:
        assert gpus == []
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize("gpus", ["", "0,,1", "0 1", "../x"])
def test_what_names_no_gpu_is_one_sentence(monkeypatch, gpus):
    monkeypatch.setenv("KONER_GPUS", gpus)
    with (
        pytest.raises(KonerError, match=r"KONER_GPUS: '.*' is not allowed; it must be GPUs with commas"),
        leased_gpus("job"),
    ):
        pass
