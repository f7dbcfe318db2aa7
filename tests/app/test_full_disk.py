"""The temporary folder is full after the start: the service goes on without metrics of the workers concerned."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.app.gunicorn_service import TEXTS, Service, make_checkout

# Start the service with a file system of 2 MiB of its own as temporary folder.
_MOUNT = 'mount -t tmpfs -o size=2m none "$TMPDIR" && exec "$0" -m app'
_START = f"import os, sys; os.execvp('unshare', ['unshare', '-rm', 'sh', '-c', {_MOUNT!r}, sys.executable])"
MESSAGE = r"koner: this worker stops reporting metrics: .*No space left on device"


def can_mount():
    """Return whether a process may mount a file system in a namespace of its own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", Path.home()]
    return shutil.which("unshare") and subprocess.run(command, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_mount(), reason="needs user namespaces of Linux")


def fill(service):
    """Fill the temporary folder of a service."""
    folder = Path(f"/proc/{service.process.pid}/root{service.scratch}")
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def replace_worker(service):
    """Kill the only worker, and return the id of the new one."""
    (old,) = service.worker_pids()
    psutil.Process(old).kill()
    return service.wait(lambda: next(iter(service.worker_pids() - {old}), None))


def test_new_workers_serve_without_metrics(tmp_path):
    with Service(make_checkout(tmp_path), "-c", _START) as service:
        service.infer(TEXTS[0])
        fill(service)
        worker = replace_worker(service)
        statuses = [service.infer(text)[0].status for text in TEXTS[:8]]
        statuses += [service.get(path)[0].status for path in ("/healthz", "/readyz", "/version", "/nowhere", "/docs")]
        assert statuses == [200] * 11 + [404, 200]
        # What the first worker has counted is still reported.
        assert service.samples()["koner_requests_total", "POST", "/infer", "200"] == 1
        assert service.worker_pids() == {worker}
        assert len(service.find_messages(MESSAGE)) == 1
        assert not service.find_messages("SIGBUS|Traceback")
        assert service.stop() == 0


def test_running_workers_go_on(tmp_path):
    with Service(make_checkout(tmp_path), "-c", _START) as service:
        service.infer(TEXTS[0])
        workers = service.worker_pids()
        fill(service)
        for text in TEXTS[:8]:
            assert service.infer(text)[0].status == 200
        # New series need new space in the files of metrics.
        assert service.get("/nowhere")[0].status == 404
        assert service.request("POST", "/infer", {"text": ""})[0].status == 422
        assert service.samples()["koner_requests_total", "POST", "/infer", "200"] == 9
        assert service.worker_pids() == workers
        assert not service.find_messages("SIGBUS|Traceback|koner: this worker")


def test_texts_for_annotation_are_dropped(tmp_path):
    settings = {"KONER_FEEDBACK": str(tmp_path / "tmp/feedback"), "KONER_FEEDBACK_SCORE": "1"}
    with Service(make_checkout(tmp_path), "-c", _START, **settings, KONER_FEEDBACK_SHARE="1") as service:
        fill(service)
        for text in TEXTS[:4]:
            assert service.infer(text)[0].status == 200
        dropped = "koner: this worker keeps no texts in KONER_FEEDBACK for now: .*No space left on device"
        service.wait(lambda: service.find_messages(dropped))
        assert service.infer(TEXTS[4])[0].status == 200
        assert service.stop() == 0
        assert len(service.find_messages(dropped)) == 1
        assert not service.find_messages("Traceback")
