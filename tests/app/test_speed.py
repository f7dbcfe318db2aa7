import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from app.speed import is_fast
from tests.inference.table_model import write_model

# Preloads a model for one worker, as gunicorn's master does.
PRELOAD = """
import sys
from pathlib import Path
from app import preload, settings
settings.usable_cores = lambda: int(sys.argv[5])
preload.is_fast = lambda tagger: sys.argv[3] == "fast"
threads = int(sys.argv[4]) or None
model = preload.preload_model(
    settings.Settings(model=Path(sys.argv[1]), allow_unlocked=True, threads=threads),
    Path(sys.argv[2]),
)
print(model.settings.threads_per_worker, model.runtime, type(model.source).__name__, sep="; ")
"""


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, True), (0.1, False)])
def test_a_model_is_fast_or_not(tagger, seconds, expected):
    assert is_fast(SimpleNamespace(encode=tagger.encode, run=lambda windows: time.sleep(seconds))) is expected


@pytest.mark.parametrize(
    ("speed", "threads", "cores", "expected"),
    [
        ("fast", 0, 3, 2),
        ("fast", 0, 2, 1),
        ("fast", 0, 1, 1),
        ("fast", 2, 2, 2),
        ("slow", 0, 2, 2),
    ],
)
def test_a_fast_model_leaves_a_core_to_the_rest_of_the_requests(root, tmp_path, speed, threads, cores, expected):
    for name in ("ner", "scratch"):
        (tmp_path / name).mkdir()
    write_model(tmp_path / "ner", ["<홍길동:PS>은 갔다."])
    arguments = [tmp_path / "ner", tmp_path / "scratch", speed, threads, cores]
    command = [sys.executable, "-c", PRELOAD, *map(str, arguments)]
    # As gunicorn's configuration sets them.
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    number, runtime, source = done.stdout.strip().split("; ")
    assert int(number) == expected
    assert runtime.endswith("1 thread" if expected == 1 else f"{expected} threads")
    # Workers inherit a model without threads of its own.
    assert source == ("Tagger" if expected == 1 else "PosixPath")
