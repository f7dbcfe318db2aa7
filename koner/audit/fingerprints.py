"""Digests of annotated sentences, which show whether one changed after the audit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from koner.labels.bio import Entity

# The field of a task's data that holds the digest.
FINGERPRINT_FIELD = "audited"


def fingerprint(text: str, entities: Iterable[Entity]) -> str:
    """Return a digest of a sentence and its annotation."""
    annotation = [text, [[e.start, e.end, e.label] for e in sorted(entities)]]
    return hashlib.sha256(json.dumps(annotation).encode()).hexdigest()[:16]
