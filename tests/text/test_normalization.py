import itertools
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.text.normalization import Composed, compose

SEOUL_NFD = "\u1109\u1165\u110b\u116e\u11af"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
# Hangul letters; bases and marks that compose, reorder or do neither; compatibility letters; the parts of an emoji.
COMPOSING = (
    "\u1109\u1165\u110b\u116e\u11af가각ㄱㅏ①aeE\u0301\u0300\u0323\u031b\u0327\u0338\u0344"
    "\u0928\u093c\u212b\u200d\ufe0f\U0001f468"
)
TEXTS = st.text(st.one_of(st.sampled_from(COMPOSING), st.characters(exclude_categories=("Cs",))), max_size=24)


@settings(deadline=None)
@given(TEXTS)
def test_text_is_the_nfc_of_the_original(text):
    assert compose(text).text == unicodedata.normalize("NFC", text)


@settings(deadline=None)
@given(TEXTS)
def test_the_original_span_of_a_run_composes_to_that_run(text):
    composed = compose(text)
    spans = [composed.original_span(i, i + 1) for i in range(len(composed.text))]
    for (start, end), run in itertools.groupby(range(len(spans)), key=spans.__getitem__):
        composed_run = "".join(composed.text[i] for i in run)
        assert unicodedata.normalize("NFC", text[start:end]) == composed_run


@settings(deadline=None)
@given(TEXTS)
def test_spans_are_monotonic_and_cover_the_original(text):
    composed = compose(text)
    spans = [composed.original_span(i, i + 1) for i in range(len(composed.text))]
    runs = [span for span, _ in itertools.groupby(spans)]
    assert all(start < end for start, end in runs)
    assert [start for start, _ in runs] + [len(text)] == [0] + [end for _, end in runs]


@pytest.mark.parametrize(
    ("text", "composed", "spans"),
    [
        pytest.param(SEOUL_NFD, "서울", [(0, 2), (2, 5)], id="decomposed Hangul"),
        pytest.param(f"a{SEOUL_NFD}b", "a서울b", [(0, 1), (1, 3), (3, 6), (6, 7)], id="between other letters"),
        pytest.param("서\u11af", "설", [(0, 2)], id="a syllable and a final consonant"),
        pytest.param("xe\u0301y", "xéy", [(0, 1), (1, 3), (3, 4)], id="base and mark"),
        pytest.param("a\u0301\u0323", "ạ\u0301", [(0, 3), (0, 3)], id="marks out of order"),
        pytest.param("q\u0323\u0301e\u0301", "q\u0323\u0301é", [(0, 3)] * 3 + [(3, 5)], id="marks that stay marks"),
        pytest.param("\u1109e\u0301", "\u1109é", [(0, 1), (1, 3)], id="a lone letter of Hangul"),
        pytest.param("\u212b", "Å", [(0, 1)], id="one code point for another"),
        pytest.param(
            f"{FAMILY}e\u0301", f"{FAMILY}é", [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 7)], id="emoji sequence"
        ),
    ],
)
def test_spans_point_at_the_original(text, composed, spans):
    assert compose(text) == Composed(composed, spans)


@pytest.mark.parametrize("text", ["", "서울", "ㅋㅋㅋ", "\u1109", FAMILY, "é"])
def test_a_composed_text_keeps_its_offsets(text):
    assert compose(text) == Composed(text, None)


def test_a_span_of_several_characters_is_mapped_as_a_whole():
    assert compose(f"a{SEOUL_NFD}b").original_span(1, 3) == (1, 6)


@pytest.mark.parametrize("text", ["=\u0f73\u0338", "\u0928\u0f73\u093c"])
def test_a_mark_composes_with_the_base_before_a_character_that_decomposes_to_marks(text):
    # U+0F73 is not a combining character but decomposes to two, so a mark after it can compose with the base before it.
    assert compose(text).text == unicodedata.normalize("NFC", text)
