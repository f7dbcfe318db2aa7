"""The speed of a model, by which the settings of its service are chosen."""

from __future__ import annotations

import time

from koner.inference.tagger import Tagger

WARM_UP_TEXT = "홍길동은 지난해 서울에서 3명을 만났다."
"""The text that a model is run with before it is served."""

# Seconds for a token. On two cores, the sample model takes 3e-5, and one of the shape of klue/roberta-base 45e-5.
_FAST = 1e-4
_WINDOWS, _RUNS = 8, 3


def is_fast(tagger: Tagger) -> bool:
    """Run a model, and return whether it takes little time, so that the rest of a request counts as much."""
    windows = tagger.encode([WARM_UP_TEXT])[0].windows * _WINDOWS
    seconds = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        tagger.run(windows)
        seconds.append(time.perf_counter() - start)
    return min(seconds) / sum(map(len, windows)) < _FAST
