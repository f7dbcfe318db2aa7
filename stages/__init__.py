"""The stages of the pipeline, one script each: `python -m stages.prepare`, run from the root of the repository.

Python reads this file before any stage. It says in a sentence if that is not the Python of the project, so it must be
readable for all versions: a `dvc` from elsewhere starts the stages by the first `python` on the path.
"""

import os
import sys

_REMEDY = "activate the project's environment (`source .venv/bin/activate`; `make setup` creates it) and try again"

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("koner: " + sys.executable + " is Python " + sys.version.split()[0] + ", and 3.11 is needed; " + _REMEDY)


def _explain_missing_module(kind, error, traceback):
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if not issubclass(kind, ModuleNotFoundError) or not name or name in ("app", "koner", "stages"):
        sys.__excepthook__(kind, error, traceback)
        return
    sys.stderr.write("koner: " + sys.executable + " has no module '" + name + "'; " + _REMEDY + "\n")


# Only for a stage that is started as one, and not for programs that import it.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _explain_missing_module
    if "DVC_STAGE" in os.environ:
        # DVC that is killed leaves its stages running. The imports below take seconds, in which it may be killed, too.
        from koner.storage.workspace import exit_with_dvc

        exit_with_dvc()

from stages.runner import run_stage  # noqa: E402

__all__ = ["run_stage"]
