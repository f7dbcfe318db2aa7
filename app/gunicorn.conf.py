"""The configuration of gunicorn, executed in its master at the start and again at each SIGHUP.

Before it forks workers, the master verifies the model against the lock file, and does not start if they do not match.
At SIGHUP it verifies the model again, and new workers replace the old ones. They serve the new model, or the old one if
the new one may not be served.
"""

# ruff: noqa: N999 (gunicorn prescribes the file name)

import atexit
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

# Only at the start, before the application is imported.
if "app" not in sys.modules:
    try:
        _folder = tempfile.mkdtemp(prefix="koner-")
    except OSError as error:
        sys.exit(f"koner: TMPDIR: no temporary folder can be created: {error.strerror}")
    # prometheus_client reads this variable when it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder
    # The tokenizer's threads would compete with those of the model.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # ONNX Runtime starts a telemetry thread at import. With it, workers could not share a loaded model.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # gunicorn takes this variable for a path prefix; ours is KONER_PREFIX.
    os.environ.pop("SCRIPT_NAME", None)

    def _remove_folder(folder: str, master: int) -> None:
        # Workers inherit the exit handlers of the master. They remove the folder if the master was killed.
        if os.getppid() != master:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(_remove_folder, _folder, os.getpid())
    # Until gunicorn installs its own handler. The default handler would end the process without its exit handlers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

from prometheus_client import multiprocess

from app import operations
from app.preload import PreloadedModel, preload_model, preloaded_model, reload_model
from app.settings import Settings, load_settings
from app.worker import Worker
from koner.errors import KonerError, exit_on_error

_SCRATCH = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])


def _check_address(settings: Settings) -> None:
    """Raise `KonerError` if the service cannot listen on its address; gunicorn would retry for five seconds."""
    if {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():
        # The socket comes from the previous master or from systemd.
        return
    try:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        address = f"HOST {settings.host}, PORT {settings.port}"
        raise KonerError(f"{address}: the service cannot listen on this address: {error.strerror}") from None


def _preload_first_model() -> PreloadedModel:
    settings = load_settings()
    _check_address(settings)
    return preload_model(settings, _SCRATCH)


with exit_on_error():
    _model = preloaded_model() or _preload_first_model()
_settings = _model.settings

wsgi_app = "app:create_app()"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.workers
worker_class = Worker
# One for each request that may wait, and some more to reject requests and to answer health checks meanwhile.
threads = _settings.queue_requests + 16
graceful_timeout = _settings.grace
# In seconds. A worker sends no heartbeat while it loads its model.
timeout = 120
keepalive = 5
limit_request_line = 2048
limit_request_fields = 64
limit_request_field_size = 8190
# No header changes the routing, the address of a client or the scheme, whoever sends it.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
# The master is controlled by signals only.
control_socket_disable = True


def when_ready(server: Any) -> None:
    """Log which model is served."""
    _log_model(server, _model)


def on_reload(server: Any) -> None:
    """Preload the current model for the new workers, and log which model they serve."""
    model = reload_model(_SCRATCH)
    if model.refusal:
        server.log.error("koner: the previous model stays in service: %s", model.refusal)
    _log_model(server, model)


def _log_model(server: Any, preloaded: PreloadedModel) -> None:
    model = preloaded.model
    log = server.log.info if model.is_locked else server.log.warning
    lock_state = "the locked model" if model.is_locked else "NOT the locked model"
    log(
        "koner: serving %s, %s, %s; workers: %d, runtime: %s",
        preloaded.settings.model,
        model.hash,
        lock_state,
        workers,
        preloaded.runtime,
    )
    if preloaded.other_versions:
        server.log.warning("koner: the figures were measured with other package versions: %s", preloaded.other_versions)


def post_worker_init(worker: Any) -> None:
    """Give the application a function that returns whether its worker is shutting down."""
    worker.wsgi.config[operations.IS_STOPPING] = lambda: not worker.alive


def child_exit(server: Any, worker: Any) -> None:
    """Remove the gauges of a worker that has exited; its counters stay."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
