"""The real Label Studio, in an environment of its own, with SQLite, on the loopback interface.

`python -m tests.annotation.label_studio_server` makes the environment, which has a gigabyte, once: `make test` does so.
KONER_LABEL_STUDIO names the program of an installation that exists.
"""

import os
import shutil
import subprocess
import sys
import time
from functools import partialmethod
from pathlib import Path

import psutil
import requests
from filelock import FileLock

VERSION = "1.23.2"
USER, PASSWORD, TOKEN = "admin@example.com", "a-password", "0123456789abcdef0123456789abcdef01234567"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "koner-tests"
# As in docs/annotation.md: no call home, and addresses of backends on this machine.
_SETTINGS = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SECRET_KEY": "of a test",
    "USE_DEFAULT_BANNED_SUBNETS": "false",
}


class NotInstalledError(Exception):
    """Label Studio can't be installed here."""


def make_label_studio():
    """Return the program `label-studio` and a data folder with an empty database and a user; make them once.

    Raises:
        NotInstalledError: If pip can't install Label Studio.
    """
    program = os.environ.get("KONER_LABEL_STUDIO")
    folder = _CACHE / f"label-studio-{VERSION}-python{sys.version_info[0]}.{sys.version_info[1]}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not program:
            program = folder / "bin/label-studio"
            if not program.exists():
                _install(folder)
        data = folder.with_name(f"{folder.name}-data")
        if not data.exists():
            _initialize(program, data)
    return program, data


def _install(folder):
    """Install Label Studio into a new environment, which is complete or does not exist."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet", "--no-compile"]
    done = subprocess.run([*pip, f"label-studio=={VERSION}"], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        raise NotInstalledError(f"pip can't install label-studio=={VERSION}: {done.stderr.strip()[-300:]}")


def _initialize(program, data):
    """Create the database, with the user, whose migrations take half a minute of CPU time."""
    draft = data.with_name(f"{data.name}-draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    account = ["--username", USER, "--password", PASSWORD, "--user-token", TOKEN, "--enable-legacy-api-token"]
    subprocess.run(
        [program, "init", "first", *account], env=_environment(draft), cwd=draft, check=True, capture_output=True
    )
    draft.rename(data)


def _environment(data):
    # Not this environment's modules.
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return variables | _SETTINGS | {"LABEL_STUDIO_BASE_DATA_DIR": str(data)}


class LabelStudio:
    """A server with a copy of the empty database.

    Args:
        folder: An empty folder for the data and the log.
        port: A free port.
    """

    def __init__(self, folder, port):
        program, data = make_label_studio()
        shutil.copytree(data, folder / "data")
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        arguments = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
        with self.log.open("w") as log:
            self.process = psutil.Popen(
                [program, *arguments], env=_environment(folder / "data"), cwd=folder, stdout=log, stderr=log
            )

    def __enter__(self):
        deadline = time.monotonic() + 300
        while not self._is_up():
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return self

    def __exit__(self, *_):
        for process in [*self.process.children(recursive=True), self.process]:
            process.kill()
        self.process.wait()

    def _is_up(self):
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.RequestException:
            return False

    def request(self, method, path, body=None):
        """Send a request to the API, and return the response's JSON."""
        headers = {"Authorization": f"Token {TOKEN}"}
        response = requests.request(method, f"{self.url}/api/{path}", headers=headers, json=body, timeout=120)
        assert response.ok, f"{method} {path}: {response.status_code} {response.text[:1000]}"
        return response.json()

    get = partialmethod(request, "GET")
    post = partialmethod(request, "POST")
    patch = partialmethod(request, "PATCH")


if __name__ == "__main__":
    try:
        make_label_studio()
    except NotInstalledError as error:
        print(f"Label Studio's tests will be skipped: {error}", file=sys.stderr)
