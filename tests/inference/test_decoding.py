import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram

from koner.encoder.vocabulary import SPECIAL_TOKENS, make_tokenizer
from koner.inference.decoding import DecodingSettings
from koner.inference.decoding import decode as decode_paths
from koner.inference.tagger import Tagger, TokenLogits
from koner.inference.transitions import BioLabels
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.text.normalization import compose
from koner.tokens.windows import Window, WindowedText
from tests.inference import plain_decoding

TEXTS = st.text(
    st.sampled_from("홍길동서울부산정부3명 \t\nㅋㅎ한ᄒ́각👩‍👩🏽ＡＢ中！.\u200bé́㎏½ﷺ\u0316\x1f\x85\ud800"), max_size=60
) | st.text(st.characters(), max_size=40)


def decode(values, labels, offsets, composed, temperature):
    """Decode with the most likely label of each token."""
    starts = np.array([0, len(values)])
    texts = [(composed, offsets)]
    (tagged,) = decode_paths(values, values.argmax(axis=1), starts, BioLabels(labels), texts, temperature)
    return tagged


def logits(*tags, low=-5.0, high=5.0):
    """Return one row per tag, in which the logit of that tag is high."""
    values = np.full((len(tags), len(KLUE.tags)), low, np.float32)
    for row, tag in zip(values, tags, strict=True):
        row[KLUE.tag_to_id[tag]] = high
    return values


def spans(text, tags, offsets):
    tagged = decode(logits(*tags), KLUE.tags, offsets, compose(text), 1.0)
    return [(e.start, e.end, e.label) for e in tagged.entities]


def test_entities_are_decoded_from_the_most_likely_tags():
    offsets = [(0, 3), (3, 4), (5, 7)]
    assert spans("홍길동이 서울", ["B-PS", "O", "B-LC"], offsets) == [(0, 3, "PS"), (5, 7, "LC")]
    assert spans("홍길동이 서울", ["B-PS", "I-PS", "I-PS"], offsets) == [(0, 7, "PS")]
    assert spans("홍길동이 서울", ["O", "O", "O"], offsets) == []


def test_spans_are_those_of_the_original_text():
    text = unicodedata.normalize("NFD", "가 서울")
    assert spans(text, ["O", "B-LC"], [(0, 1), (2, 4)]) == [(3, len(text), "LC")]


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        pytest.param("㎏정부", [(0, 1), (0, 3)], [(0, 1, "QT"), (1, 3, "OG")], id="the second entity has the rest"),
        pytest.param("㎏ 정", [(0, 1), (0, 3)], [(0, 1, "QT"), (2, 3, "OG")], id="without the space between"),
        pytest.param("㎏정부", [(0, 2), (1, 2)], [(0, 2, "QT")], id="the second entity is empty"),
        pytest.param("a\u0301\u0323", [(0, 1), (1, 2)], [(0, 3, "QT")], id="a character of several code points"),
    ],
)
def test_a_character_of_two_tokens_belongs_to_the_first_entity(text, offsets, expected):
    assert spans(text, ["B-QT", "B-OG"], offsets) == expected


def test_a_score_is_the_mean_probability_of_the_tags_of_an_entity():
    values = np.zeros((2, len(KLUE.tags)), np.float32)
    values[0, KLUE.tag_to_id["B-PS"]], values[1, KLUE.tag_to_id["I-PS"]] = np.log(12), np.log(36)
    tagged = decode(values, KLUE.tags, [(0, 1), (1, 3)], compose("홍길동"), 1.0)
    assert tagged.token_tags == ("B-PS", "I-PS")
    assert tagged.token_scores == pytest.approx([12 / 24, 36 / 48])
    assert [e.score for e in tagged.entities] == pytest.approx([(12 / 24 + 36 / 48) / 2])
    warmer = decode(values, KLUE.tags, [(0, 1), (1, 3)], compose("홍길동"), 2.0)
    assert warmer.token_scores == pytest.approx([12**0.5 / (12**0.5 + 12), 6 / 18])
    assert warmer.token_tags == tagged.token_tags


def test_a_text_without_tokens_has_no_entities():
    tagged = decode(np.empty((0, len(KLUE.tags)), np.float32), KLUE.tags, [], compose(""), 1.0)
    assert (tagged.entities, tagged.token_tags, tagged.token_scores) == ((), (), ())


def random_text(random, labels, tokens):
    """Return a text of tokens of one or two characters, and logits for them."""
    lengths = random.integers(1, 3, tokens)
    ends = np.cumsum(lengths + random.integers(0, 2, tokens))
    offsets = tuple(zip((ends - lengths).tolist(), ends.tolist(), strict=True))
    values = random.standard_normal((tokens, labels)).astype(np.float32)
    # Entities of many tokens, too.
    values[:, :2] += random.choice([0, 3])
    composed = compose("".join(random.choice([*"가나 "], ends[-1] if tokens else 0)))
    return TokenLogits(composed, WindowedText((Window((0,) * tokens, offsets),)), values)


@pytest.mark.parametrize("is_legal", [True, False])
@pytest.mark.parametrize("types", [1, 6, 142])
@pytest.mark.parametrize("count", [0, 1, 2, 64])
def test_texts_are_decoded_together_exactly_as_one_by_one(types, count, is_legal):
    labels = LabelSet(tuple(f"T{i}" for i in range(types))).tags
    random = np.random.default_rng(count)
    texts = [random_text(random, len(labels), tokens) for tokens in random.integers(0, 40, count)]
    tagger = Tagger(RandomRuntime(8), wordpiece(), labels, 64, settings=DecodingSettings(1.3, is_legal))
    expected = []
    for text in texts:
        path = plain_decoding.best_path(labels, text.values) if is_legal else text.values.argmax(axis=1)
        offsets = text.windowed_text.offsets
        expected.append(plain_decoding.decode(text.values, path, labels, offsets, text.composed, 1.3))
    assert tagger.decode_all(texts) == expected
    paths = [[labels[i] for i in path] for path in tagger.best_paths([text.values for text in texts])]
    assert paths == [list(text.token_tags) for text in expected]


class RandomRuntime:
    """A model with random logits that depend on a token's id and position."""

    description = "random"
    batch_tokens = 512

    def __init__(self, vocabulary):
        random = np.random.default_rng(7)
        self.by_token, self.by_position = (random.standard_normal((n, len(KLUE.tags))) * 3 for n in (vocabulary, 64))

    def __call__(self, input_ids, attention_mask):
        return (self.by_token[input_ids] + self.by_position[: input_ids.shape[1]]).astype(np.float32)


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
def test_spans_are_sound_with_any_tokenizer_and_many_entities(make):
    tokenizer = make()
    random = Tagger(RandomRuntime(tokenizer.get_vocab_size()), tokenizer, KLUE.tags, max_length=12)
    entity_count = 0

    @settings(max_examples=400, deadline=None)
    @given(TEXTS)
    def check_text(text):
        nonlocal entity_count
        entities = random.tag(text)
        assert_sound(entities, text)
        entity_count += len(entities)

    check_text()
    # Two per example on average, over enough examples that chance does not matter.
    assert entity_count > 800


def assert_sound(entities, text):
    """Assert that entities are in order, disjoint, not empty, within the text, and have no space at either end."""
    position = 0
    for e in entities:
        assert position <= e.start < e.end <= len(text)
        assert text[e.start : e.end].strip() == text[e.start : e.end]
        assert 0 <= e.score <= 1
        position = e.end
