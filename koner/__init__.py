"""koner: Korean named-entity recognition that can be reproduced, compared and served."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koner.inference.decoding import ScoredEntity
    from koner.inference.tagger import Tagger
    from koner.labels.bio import Entity

__all__ = ["Entity", "ScoredEntity", "Tagger"]

# The modules of the public names, imported on first use: most of the package does not need a tagger.
_MODULES = {
    "Entity": "koner.labels.bio",
    "ScoredEntity": "koner.inference.decoding",
    "Tagger": "koner.inference.tagger",
}

try:
    __version__ = version("koner")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'koner' has no attribute '{name}'")
