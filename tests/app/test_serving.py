import time
from types import SimpleNamespace

import pytest

from app.serving import choose_padding


@pytest.mark.parametrize(("seconds", "padding"), [(0.0, 0.25), (0.1, 0.1)])
def test_a_slow_model_gets_less_padding(tagger, seconds, padding):
    timed = SimpleNamespace(encode=tagger.encode, run=lambda windows: time.sleep(seconds))
    assert choose_padding(timed) == padding
