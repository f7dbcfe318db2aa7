import subprocess
import sys

import pytest

# Blocks of 64 MiB are written to and freed, as a training step's are; a fault is a page that the system had to give.
FAULTS = """
import resource, sys
import torch
from koner.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
kept = keep_memory() and keep_memory()
faults()
print(int(kept), given_back, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's malloc")
def test_what_is_freed_is_taken_again(root):
    done = subprocess.run([sys.executable, "-c", FAULTS], cwd=root, capture_output=True, text=True, check=True)
    kept, before, after = map(int, done.stdout.split())
    assert kept
    assert before > 1000
    assert after < before / 100
