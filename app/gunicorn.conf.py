"""gunicorn's configuration, read in its master: at the start, and again at each SIGHUP.

Before there are workers the master checks the model against the lock, and doesn't start where they don't match. At
SIGHUP it checks again; new workers then take the place of the old ones, with the new model, or with the old one where
the new isn't fit to be served.
"""

# ruff: noqa: N999 (the name that gunicorn gives it)

import atexit
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

if "app" not in sys.modules:
    _folder = tempfile.mkdtemp(prefix="koner-")
    # prometheus_client looks at it when it is imported, and no later.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder
    # The tokenizer's threads would be in the way of the model's.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # ONNX Runtime calls home from its import on; the thread that does so would forbid workers to share a loaded model.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

    def _clean_up(folder: str, master: int) -> None:
        # Workers inherit what is to be done at exit.
        if os.getpid() == master:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(_clean_up, _folder, os.getpid())
    # Until gunicorn takes it over: by default it would end the process with nothing cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

from gunicorn.workers.gthread import ThreadWorker
from prometheus_client import multiprocess

from app import operations, serving
from app.settings import Settings, load_settings
from koner.errors import KonerError, told_plainly

_SCRATCH = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])


def _check_address(settings: Settings) -> None:
    """Raises `KonerError` where the address can't be listened on; gunicorn itself would try for five seconds."""
    if {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():
        # The socket comes from the master that this one succeeds, or from systemd.
        return
    try:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        place = f"HOST {settings.host}, PORT {settings.port}"
        raise KonerError(f"{place}: can't listen there: {error.strerror}") from None


def _prepare() -> serving.Prepared:
    settings = load_settings()
    _check_address(settings)
    return serving.prepare(settings, _SCRATCH)


class Worker(ThreadWorker):  # type: ignore[misc]
    """A worker with threads that stops listening as soon as it is asked to stop, and answers what had come by then.

    gunicorn's own would hold the socket until its last request is done; whatever connects meanwhile would wait, and be
    dropped in the end, where a refusal sends a balancer to another service at once.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        """Takes connections or leaves them; leaves them for good where the worker is about to stop."""
        stopping = not self.alive or self.ppid != os.getppid()
        super().set_accept_enabled(enabled and not stopping)
        if stopping:
            for listener in self.sockets:
                self._take_waiting(listener)
                listener.close()
            self.sockets.clear()

    def _take_waiting(self, listener: Any) -> None:
        before = -1
        # Too many open files, for one, must not end what is being answered.
        with suppress(OSError):
            # Each connection that is taken counts; with none left, the count stays.
            while before < self.nr_conns < self.worker_connections:
                before = self.nr_conns
                self.accept(listener)


with told_plainly():
    _ready = serving.prepared() or _prepare()
_settings = _ready.settings

wsgi_app = "app:create_app()"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.workers
worker_class = Worker
# One for each request that may wait, and some to refuse more and to tell the worker's health meanwhile.
threads = _settings.queue_requests + 16
graceful_timeout = _settings.grace
# A worker gives no sign of life while it loads its model.
timeout = 120
keepalive = 5
limit_request_line = 2048
limit_request_fields = 64
limit_request_field_size = 8190
# Nobody is to reach the master but by signals.
control_socket_disable = True


def when_ready(server: Any) -> None:
    """Tells what is served."""
    _tell(server, _ready)


def on_reload(server: Any) -> None:
    """Makes the model that is there now ready for the new workers, and tells what they serve."""
    ready = _ready
    try:
        ready = serving.prepare(load_settings(), _SCRATCH)
    except (KonerError, OSError) as error:
        server.log.error("koner: the model stays as it was: %s", error)
    _tell(server, ready)


def _tell(server: Any, ready: serving.Prepared) -> None:
    log = server.log.info if ready.model.locked else server.log.warning
    lock = "the locked model" if ready.model.locked else "NOT the locked model"
    served = f"{ready.settings.model}, {ready.model.hash}, {lock}"
    log("koner: serving %s; workers: %d, each by %s", served, workers, ready.runtime)


def post_worker_init(worker: Any) -> None:
    """Lets the application know when its worker is about to stop."""
    worker.wsgi.config[operations.STOPPING] = lambda: not worker.alive


def child_exit(server: Any, worker: Any) -> None:
    """Drops a worker's gauges with it; what it counted stays."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
