"""The command `koner serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command()
@click.option("--host", help="The address to listen on, in place of HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on, in place of PORT.")
@click.option("--workers", type=click.IntRange(1), help="The number of processes, in place of WORKERS.")
@click.option(
    "--rev",
    metavar="REV",
    help="Serve the model that the dvc.lock of this Git revision pins, in place of KONER_MODEL.",
)
def serve(host: str | None, port: int | None, workers: int | None, rev: str | None) -> None:
    """Serve the model over HTTP: POST /infer, and a page to try it on.

    All other settings are environment variables; `python -m app.settings` prints them.
    """
    variables: dict[str, object] = {"HOST": host, "PORT": port, "WORKERS": workers}
    if rev is not None:
        from koner.release.locking import LOCK_FILE
        from koner.release.revisions import MODEL_FOLDER, fetch_model

        model = fetch_model(rev)
        root = Path(os.path.relpath(model.root))
        variables |= {
            "KONER_MODEL": root / MODEL_FOLDER,
            "KONER_LOCK": root / LOCK_FILE,
            "KONER_REVISION": model.commit,
        }
    environment = os.environ | {name: str(value) for name, value in variables.items() if value is not None}
    # The service replaces this process, so that it receives signals directly.
    os.execve(sys.executable, [sys.executable, "-m", "app"], environment)  # noqa: S606
