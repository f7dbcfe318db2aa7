import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer

from koner.alignment import read_back, retag
from koner.corpus import RawSentence, check
from koner.encoding import encode, windowed
from koner.unspelt import isolating_unspelt, spelt_characters
from koner.vocabulary import SPECIAL_TOKENS, make_tokenizer

PIECES = ["앳", "슨", "##슨", "은", "##은", "킨슨", "왔다", "]", "##]", "-"]


@pytest.fixture
def tokenizer():
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *PIECES])
    return make_tokenizer({piece: i for i, piece in enumerate(pieces)}, 64).backend_tokenizer


def test_spelt_is_what_stands_in_any_place_of_a_word_or_in_longer_pieces(tokenizer):
    # 앳 is no piece inside a word; the letters of [UNK] are none of the vocabulary's.
    assert spelt_characters(tokenizer) == set("슨은킨왔다]")


def test_a_character_that_cannot_be_spelt_hides_no_other(tokenizer):
    assert tokenizer.encode("뷁슨은 왔다", add_special_tokens=False).tokens == ["[UNK]", "왔다"]
    apart = isolating_unspelt(tokenizer)
    encoding = apart.encode("뷁슨은 은뷁뷁은 왔다", add_special_tokens=False)
    assert encoding.tokens == ["[UNK]", "슨", "##은", "은", "[UNK]", "[UNK]", "은", "왔다"]
    assert encoding.offsets == [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (7, 8), (9, 11)]
    # What is a piece at a word's start is one wherever it stands.
    assert apart.encode("은앳킨슨", add_special_tokens=False).tokens == ["은", "앳", "킨슨"]
    assert apart.get_vocab() == tokenizer.get_vocab()


def test_words_that_could_be_spelt_are_spelt_as_before(tokenizer):
    text = "슨은 킨슨은]] 은-슨 왔다"
    assert isolating_unspelt(tokenizer).encode(text).tokens == tokenizer.encode(text).tokens


def test_entities_end_inside_words_with_unspelt_characters(tokenizer):
    sentence = check(RawSentence("", "1", annotated="<뷁슨:PS>은 왔다"))
    (before,) = retag([sentence], tokenizer, 32, 8)
    (after,) = retag([sentence], isolating_unspelt(tokenizer), 32, 8)
    assert read_back(before) != list(sentence.entities)
    assert read_back(after) == list(sentence.entities)


def test_nothing_is_spelt_by_a_vocabulary_without_pieces():
    bare = make_tokenizer({piece: i for i, piece in enumerate(SPECIAL_TOKENS)}, 64).backend_tokenizer
    assert isolating_unspelt(bare).encode("은", add_special_tokens=False).tokens == ["[UNK]"]


def test_tokenizers_of_other_kinds_stay_as_they_are():
    tokenizer = Tokenizer(BPE({"유": 0}, []))
    assert isolating_unspelt(tokenizer) is tokenizer


def test_real_sentences_lose_less_and_their_other_words_nothing(shared):
    given = AutoTokenizer.from_pretrained(shared / "klue-roberta-base").backend_tokenizer
    apart = isolating_unspelt(given)
    text = "앳킨슨은 짦게느껴질정도로 잘했습니다뷁뷁 서울에서"
    before, after = (encode([text], windowed(t, 512, 128), 512, 128)[0] for t in (given, apart))
    assert [text[a:b] for a, b in before.offsets if b - a > 3] == ["앳킨슨은", "짦게느껴질정도로", "잘했습니다뷁뷁"]
    assert max(b - a for a, b in after.offsets) <= 3
    assert before.offsets[-2:] == after.offsets[-2:]
