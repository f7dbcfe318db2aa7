"""The command `python -m app`: start gunicorn with the configuration beside this file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIGURATION = Path(__file__).with_name("gunicorn.conf.py")

if __name__ == "__main__":
    # gunicorn replaces this process, so that it receives signals directly.
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--config", str(CONFIGURATION)])  # noqa: S606
