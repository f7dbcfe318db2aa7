"""koner: Korean named-entity recognition that can be reproduced, compared and served."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koner.tagger import ScoredEntity, Tagger

__all__ = ["ScoredEntity", "Tagger"]

try:
    __version__ = version("koner")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0"


def __getattr__(name: str) -> Any:
    # Most of the package does without a tagger, and what it imports.
    if name in __all__:
        from koner import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module 'koner' has no attribute '{name}'")
