import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram

from koner.decoding import decode as decode_path
from koner.labels import TAG_TO_ID, TAGS
from koner.normalization import compose
from koner.tagger import Tagger
from koner.vocabulary import SPECIAL_TOKENS, make_tokenizer

TEXTS = st.text(
    st.sampled_from("홍길동서울부산정부3명 \t\nㅋㅎ한ᄒ́각👩‍👩🏽ＡＢ中！.\u200bé́㎏½ﷺ\u0316\x1f\x85\ud800"), max_size=60
) | st.text(st.characters(), max_size=40)


def decode(values, labels, offsets, composed, temperature):
    """Each token given its likeliest label."""
    return decode_path(values, values.argmax(axis=1), labels, offsets, composed, temperature)


def logits(*tags, low=-5.0, high=5.0):
    """One row a tag, that tag's logit high."""
    values = np.full((len(tags), len(TAGS)), low, np.float32)
    for row, tag in zip(values, tags, strict=True):
        row[TAG_TO_ID[tag]] = high
    return values


def spans(text, tags, offsets):
    tagged = decode(logits(*tags), TAGS, offsets, compose(text), 1.0)
    return [(e.start, e.end, e.label) for e in tagged.entities]


def test_entities_are_read_off_the_likeliest_tags():
    offsets = [(0, 3), (3, 4), (5, 7)]
    assert spans("홍길동이 서울", ["B-PS", "O", "B-LC"], offsets) == [(0, 3, "PS"), (5, 7, "LC")]
    assert spans("홍길동이 서울", ["B-PS", "I-PS", "I-PS"], offsets) == [(0, 7, "PS")]
    assert spans("홍길동이 서울", ["O", "O", "O"], offsets) == []


def test_spans_are_those_of_the_text_as_given():
    text = unicodedata.normalize("NFD", "가 서울")
    assert spans(text, ["O", "B-LC"], [(0, 1), (2, 4)]) == [(3, len(text), "LC")]


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        pytest.param("㎏정부", [(0, 1), (0, 3)], [(0, 1, "QT"), (1, 3, "OG")], id="the rest is the latter's"),
        pytest.param("㎏ 정", [(0, 1), (0, 3)], [(0, 1, "QT"), (2, 3, "OG")], id="without the space between"),
        pytest.param("㎏정부", [(0, 2), (1, 2)], [(0, 2, "QT")], id="nothing is left"),
        pytest.param("a\u0301\u0323", [(0, 1), (1, 2)], [(0, 3, "QT")], id="a character of several code points"),
    ],
)
def test_a_character_of_two_tokens_is_the_former_entitys(text, offsets, expected):
    assert spans(text, ["B-QT", "B-OG"], offsets) == expected


def test_a_score_is_the_mean_probability_of_the_entitys_tags():
    values = np.zeros((2, len(TAGS)), np.float32)
    values[0, TAG_TO_ID["B-PS"]], values[1, TAG_TO_ID["I-PS"]] = np.log(12), np.log(36)
    tagged = decode(values, TAGS, [(0, 1), (1, 3)], compose("홍길동"), 1.0)
    assert tagged.token_tags == ("B-PS", "I-PS")
    assert tagged.token_scores == pytest.approx([12 / 24, 36 / 48])
    assert [e.score for e in tagged.entities] == pytest.approx([(12 / 24 + 36 / 48) / 2])
    warmer = decode(values, TAGS, [(0, 1), (1, 3)], compose("홍길동"), 2.0)
    assert warmer.token_scores == pytest.approx([12**0.5 / (12**0.5 + 12), 6 / 18])
    assert warmer.token_tags == tagged.token_tags


def test_a_text_without_tokens_has_no_entities():
    tagged = decode(np.empty((0, len(TAGS)), np.float32), TAGS, [], compose(""), 1.0)
    assert (tagged.entities, tagged.token_tags, tagged.token_scores) == ((), (), ())


class RandomRuntime:
    """A model of one layer with random weights: logits by a token's id and place."""

    description = "random"

    def __init__(self, vocabulary):
        random = np.random.default_rng(7)
        self.by_token, self.by_place = (random.standard_normal((n, len(TAGS))) * 3 for n in (vocabulary, 64))

    def __call__(self, input_ids, attention_mask):
        return (self.by_token[input_ids] + self.by_place[: input_ids.shape[1]]).astype(np.float32)


def wordpiece():
    pieces = [*SPECIAL_TOKENS, *"홍길동서울부산정부", *(f"##{c}" for c in "길동울산부"), "3", "명", ".", "A", "##B"]
    return make_tokenizer({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, 64).backend_tokenizer


def sentencepiece():
    pieces = ["<unk>", "<s>", "▁", *"홍길동서울부산정부3명", "▁서울", "▁홍길동"]
    tokenizer = Tokenizer(Unigram([(piece, -float(len(piece))) for piece in pieces], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.BertProcessing(("<s>", 1), ("<s>", 1))
    return tokenizer


def byte_level():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


@pytest.mark.parametrize("make", [wordpiece, sentencepiece, byte_level])
def test_spans_are_sound_with_any_tokenizer_where_entities_are_everywhere(make):
    tokenizer = make()
    random = Tagger(RandomRuntime(tokenizer.get_vocab_size()), tokenizer, TAGS, max_length=12)
    found = 0

    @settings(max_examples=400, deadline=None)
    @given(TEXTS)
    def check_text(text):
        nonlocal found
        entities = random.tag(text)
        assert_sound(entities, text)
        found += len(entities)

    check_text()
    # Two an example; of fewer examples chance decides whether there are.
    assert found > 800


def assert_sound(entities, text):
    """Entities are in order, disjoint, within the text, not empty, and no space is at either end of one."""
    # compose() keeps a space and a mark after it together.
    position = 0
    for e in entities:
        assert position <= e.start < e.end <= len(text)
        assert text[e.start : e.end].strip() == text[e.start : e.end]
        assert 0 <= e.score <= 1
        position = e.end
