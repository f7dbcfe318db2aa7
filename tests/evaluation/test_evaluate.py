import random

from hypothesis import given
from hypothesis import strategies as st

from koner.evaluation.evaluate import draw_sample


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 3))
def test_sentences_that_pass_by_are_drawn_as_from_a_list(count, most, seed):
    sentences = [object() for _ in range(count)]
    drawn = draw_sample(iter(sentences), count, seed, most)
    assert drawn == (random.Random(seed).sample(sentences, most) if most < count else sentences)  # noqa: S311
