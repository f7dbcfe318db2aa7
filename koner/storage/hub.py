"""Repositories of data sets and models on the Hugging Face hub."""

from __future__ import annotations

import os
import re

from koner.errors import KonerError, first_line
from koner.storage.paths import why_not_writable

_TIMEOUT = 5  # seconds
_TRUE = ("1", "true", "yes", "on")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a hub repository, `owner/name` or `name`."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None


def check_reachable(repository: str, revision: str | None, kind: str) -> None:
    """Ask the hub once for a repository, so that nobody has to wait for the retries of a client.

    In offline mode (`HF_HUB_OFFLINE=1`), which reads the local cache, nothing is checked. Otherwise the cache must be
    writable.

    Args:
        repository: The id of the repository.
        revision: A revision of it, or None.
        kind: `dataset` or `model`.

    Raises:
        KonerError: If the hub cannot be reached within seconds, or has no such repository or revision, or if the cache
            of downloads cannot be written.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        return
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    parameter = "source" if kind == "dataset" else "base_model"
    if reason := why_not_writable(constants.HF_HUB_CACHE):
        raise KonerError(
            f"{parameter}: the cache of the hub can't be written, so {repository} can't be downloaded ({reason}); set "
            "HF_HOME (it is in HOME by default) to a folder that can be written"
        )
    try:
        HfApi().repo_info(repository, revision=revision, repo_type=kind, timeout=_TIMEOUT)
    except RevisionNotFoundError:
        raise KonerError(f"{parameter}_revision: {repository} has no revision {revision} on the hub") from None
    except RepositoryNotFoundError:
        raise KonerError(f"{parameter}: the hub has no {kind} {repository} that is readable from here") from None
    except Exception as error:
        raise KonerError(
            f"{parameter}: the hub can't be reached for {repository} ({first_line(error)}); give a local folder in "
            f"the hub's layout, set HF_HUB_OFFLINE=1 to use a copy in the local cache, or run `koner recipe sample`"
        ) from None
