"""What every stage does before and after its work."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext

from koner.console import escape_unencodable
from koner.errors import exit_on_error
from koner.storage.workspace import lock_workspace

# A new head on a base model and a written file need no notice; errors are raised. transformers reads these when it is
# imported, which takes seconds and which not every stage needs.
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def run_stage(main: Callable[[], None], *, locks: bool = True) -> None:
    """Run a stage: log to standard output, and exit with status 1 and one sentence if a `KonerError` is raised.

    Args:
        main: The work of the stage.
        locks: Whether to lock the current folder for this stage alone; a stage that shares the lock takes it itself.
    """
    escape_unencodable()
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    for name in ("koner", "stages"):
        logging.getLogger(name).setLevel(logging.INFO)
    with exit_on_error(), lock_workspace() if locks else nullcontext():
        main()
