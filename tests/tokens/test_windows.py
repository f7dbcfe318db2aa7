from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import Unigram

from koner.encoder.vocabulary import SPECIAL_TOKENS, make_tokenizer
from koner.errors import KonerError
from koner.text.sentences import sentence_spans
from koner.tokens.windows import encode, encode_by_sentence, max_window_length, with_truncation

PIECES = (
    "스타뎀",
    "##의",
    "유",
    "##오",
    "서울",
    "##에서",
    "가",
    "##가",
    "##나",
    "k",
    "##k",
    "##g",
    "1",
    "2",
    ".",
    "!",
    *"034567890",
)
# Any text without the line ends that tokenizers delete: those separate sentences, but not words.
TEXTS = st.text(
    st.sampled_from("가나서울 에1k.!?…。”\n\r\u2028\u3000\u200b\x1f\u0301㎏½하한👩‍🏽"), max_size=60
) | st.text(st.characters(exclude_characters="\v\f\x1c\x1d\x1e\x85"), max_size=40)


def is_utf8(text):
    """Return whether a text has no lone surrogates: transformers refuses texts that have, koner takes them."""
    return not any(0xD800 <= ord(character) < 0xE000 for character in text)


@pytest.fixture(scope="module")
def wordpiece():
    """A fast tokenizer of transformers; `encode` takes its `backend_tokenizer`."""
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *PIECES])
    return make_tokenizer({piece: i for i, piece in enumerate(pieces)}, 128)


@pytest.fixture(scope="module")
def tokenizer(wordpiece):
    return wordpiece.backend_tokenizer


@pytest.fixture(scope="module")
def sentencepiece():
    pieces = ["<unk>", "<s>", "▁서울", "▁", "에", "▁가다", ".", "서울"]
    tokenizer = Tokenizer(Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.BertProcessing(("<s>", 1), ("<s>", 1))
    return tokenizer


def test_a_token_has_a_span_and_a_special_token_an_empty_one(tokenizer):
    (encoded,) = encode(["스타뎀의  유오"], tokenizer, 16, 4)
    (window,) = encoded.windows
    assert [tokenizer.id_to_token(i) for i in window.input_ids] == ["[CLS]", "스타뎀", "##의", "유", "##오", "[SEP]"]
    assert window.offsets == ((0, 0), (0, 3), (3, 4), (6, 7), (7, 8), (0, 0))
    assert encoded.offsets == [(0, 3), (3, 4), (6, 7), (7, 8)]


def test_a_shared_token_belongs_to_the_window_with_more_context(tokenizer):
    (encoded,) = encode(["0123456789"], tokenizer, 6, 2)
    assert encoded.token_positions == [
        *[(0, 1), (0, 2), (0, 3)],
        *[(1, 2), (1, 3)],
        *[(2, 2), (2, 3)],
        *[(3, 2), (3, 3), (3, 4)],
    ]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(8, 20), st.data())
def test_every_token_has_exactly_one_position(tokenizer, length, max_length, data):
    stride = data.draw(st.integers(0, max_length - 3))
    (encoded,) = encode(["7" * length], tokenizer, max_length, stride)
    assert encoded.offsets == [(i, i + 1) for i in range(length)]
    assert len(set(encoded.token_positions)) == length
    assert all(len(window) <= max_length for window in encoded.windows)


def test_each_text_has_its_own_windows(tokenizer):
    lengths = [len(encoded.windows) for encoded in encode(["0", "0123456789", "서울", ""], tokenizer, 6, 2)]
    assert lengths == [1, 4, 1, 1]


def test_no_texts_give_no_windows(tokenizer):
    assert encode([], tokenizer, 6, 2) == []


@pytest.mark.parametrize("stride", [4, 5, 100])
def test_a_stride_that_is_too_large_is_refused(tokenizer, stride):
    message = f"stride: windows of max_length 6 can't share {stride} tokens"
    with pytest.raises(KonerError, match=message):
        encode(["0123456789"], tokenizer, 6, stride)
    with pytest.raises(KonerError, match=message):
        with_truncation(tokenizer, 6, stride)


def test_the_largest_stride_moves_by_one_token(tokenizer):
    (encoded,) = encode(["0123456789"], tokenizer, 6, 3)
    assert len(encoded.windows) == 7


@settings(deadline=None)
@given(st.lists(TEXTS.filter(is_utf8), min_size=1, max_size=3))
def test_windows_equal_those_of_transformers(wordpiece, texts):
    batch = wordpiece(
        texts,
        truncation=True,
        max_length=9,
        stride=3,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows = [w for encoded in encode(texts, wordpiece.backend_tokenizer, 9, 3) for w in encoded.windows]
    assert [list(w.input_ids) for w in windows] == batch["input_ids"]
    assert [list(w.offsets) for w in windows] == batch["offset_mapping"]


def test_the_tokenizer_is_not_changed_and_its_own_settings_are_ignored(tokenizer):
    own = Tokenizer.from_str(tokenizer.to_str())
    own.enable_truncation(3)
    own.enable_padding(length=50)
    before = own.to_str()
    texts = ["0123456789", "서울"]
    assert encode(texts, own, 6, 2) == encode(texts, tokenizer, 6, 2)
    assert own.to_str() == before


def test_a_tokenizer_with_the_right_truncation_is_not_copied(tokenizer):
    truncating = with_truncation(tokenizer, 6, 2)
    assert truncating is not tokenizer
    assert with_truncation(truncating, 6, 2) is truncating
    assert with_truncation(truncating, 6, 1) is not truncating


def test_threads_can_share_a_tokenizer(tokenizer):
    own = with_truncation(tokenizer, 6, 2)
    texts = [str(n) * (n % 30) for n in range(400)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda text: encode([text], own, 6, 2)[0], texts))
    assert together == encode(texts, own, 6, 2)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        pytest.param("\x1d가\x00나\u200b 서울\ufffd", [(1, 2), (3, 4), (6, 8)], id="deleted"),
        pytest.param("\ufeff서울", [(1, 3)], id="byte order mark"),
        pytest.param("\u3000서울\t\n서울", [(1, 3), (5, 7)], id="other whitespace"),
        pytest.param("㎏가 서울", [(0, 1), (1, 2), (3, 5)], id="one character read as two"),
        pytest.param("가㎏ 서울", [(0, 1), (1, 2), (3, 5)], id="one character of two tokens"),
        pytest.param("ㄱㅏ나 서울", [(0, 1), (2, 3), (4, 6)], id="two characters read as one"),
        pytest.param("👩‍👩‍👧 서울", [(0, 5), (6, 8)], id="emoji of several code points"),
        pytest.param("１２ 서울", [(0, 1), (1, 2), (3, 5)], id="full width"),
        pytest.param("漢字 서울", [(0, 1), (1, 2), (3, 5)], id="Hanja"),
        pytest.param("\u0301 서울", [(0, 1), (2, 4)], id="lone mark"),
        pytest.param("\ud800 서울", [(2, 4)], id="lone surrogate"),
    ],
)
def test_offsets_count_code_points_of_the_original_text(tokenizer, text, spans):
    assert encode([text], tokenizer, 16, 4)[0].offsets == spans


def test_no_span_contains_the_space_before_a_word(sentencepiece):
    (encoded,) = encode(["서울에  가다. 서울"], sentencepiece, 16, 4)
    assert encoded.offsets == [(0, 2), (2, 3), (5, 7), (7, 8), (9, 11)]


@settings(deadline=None)
@given(TEXTS)
def test_a_text_has_the_same_tokens_when_split_into_sentences(tokenizer, text):
    """The tagger splits texts into sentences and the stage retag does not; their tokens must be the same."""
    (whole,) = encode([text], tokenizer, 8, 2)
    assert encode_by_sentence([text], tokenizer, 8, 2)[0].offsets == whole.offsets


@settings(deadline=None)
@given(TEXTS)
def test_a_window_has_tokens_of_one_sentence_and_is_not_too_long(tokenizer, text):
    spans = sentence_spans(text)
    for window in encode_by_sentence([text], tokenizer, 8, 2)[0].windows:
        assert len(window) <= 8
        tokens = [(start, end) for start, end in window.offsets if start < end]
        assert not tokens or any(start <= tokens[0][0] and tokens[-1][1] <= end for start, end in spans)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
    ],
)
def test_the_longest_window_has_as_many_tokens_as_the_model_has_positions(config, tokens):
    assert max_window_length(config) == tokens


@pytest.mark.parametrize("positions", [{}, {"max_position_embeddings": None}, {"max_position_embeddings": -1}])
def test_a_model_with_relative_positions_has_no_longest_window(positions):
    assert max_window_length({"model_type": "deberta", **positions}) > 10**9
