import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer

from koner.corpus.checks import RawSentence, check
from koner.encoder.unknown_characters import isolate_unknown_characters, known_characters
from koner.encoder.vocabulary import SPECIAL_TOKENS, make_tokenizer
from koner.labels.klue import KLUE
from koner.tokens.alignment import align, oracle_entities
from koner.tokens.windows import encode, with_truncation

PIECES = ["앳", "슨", "##슨", "은", "##은", "킨슨", "왔다", "]", "##]", "-"]


@pytest.fixture
def tokenizer():
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *PIECES])
    return make_tokenizer({piece: i for i, piece in enumerate(pieces)}, 64).backend_tokenizer


def test_known_characters_occur_anywhere_in_words_or_in_longer_pieces(tokenizer):
    # 앳 is not a piece inside a word, and the letters of [UNK] are not characters of the vocabulary.
    assert known_characters(tokenizer) == set("슨은킨왔다]")


def test_an_unknown_character_makes_no_other_unknown(tokenizer):
    assert tokenizer.encode("뷁슨은 왔다", add_special_tokens=False).tokens == ["[UNK]", "왔다"]
    isolating = isolate_unknown_characters(tokenizer)
    encoding = isolating.encode("뷁슨은 은뷁뷁은 왔다", add_special_tokens=False)
    assert encoding.tokens == ["[UNK]", "슨", "##은", "은", "[UNK]", "[UNK]", "은", "왔다"]
    assert encoding.offsets == [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (7, 8), (9, 11)]
    # A piece for the start of a word is one anywhere in a word.
    assert isolating.encode("은앳킨슨", add_special_tokens=False).tokens == ["은", "앳", "킨슨"]
    assert isolating.get_vocab() == tokenizer.get_vocab()


def test_words_without_unknown_characters_have_the_same_tokens(tokenizer):
    text = "슨은 킨슨은]] 은-슨 왔다"
    assert isolate_unknown_characters(tokenizer).encode(text).tokens == tokenizer.encode(text).tokens


def test_entities_can_end_inside_words_with_unknown_characters(tokenizer):
    sentence = check(RawSentence("", "1", annotated="<뷁슨:PS>은 왔다"))
    (before,) = align([sentence], tokenizer, 32, 8, KLUE)
    (after,) = align([sentence], isolate_unknown_characters(tokenizer), 32, 8, KLUE)
    assert oracle_entities(before) != list(sentence.entities)
    assert oracle_entities(after) == list(sentence.entities)


def test_every_character_is_unknown_to_a_vocabulary_without_pieces():
    empty = make_tokenizer({piece: i for i, piece in enumerate(SPECIAL_TOKENS)}, 64).backend_tokenizer
    assert isolate_unknown_characters(empty).encode("은", add_special_tokens=False).tokens == ["[UNK]"]


def test_a_tokenizer_without_wordpiece_is_returned_as_it_is():
    tokenizer = Tokenizer(BPE({"유": 0}, []))
    assert isolate_unknown_characters(tokenizer) is tokenizer


def test_only_words_with_unknown_characters_change_in_a_real_tokenizer(shared):
    tokenizer = AutoTokenizer.from_pretrained(shared / "klue-roberta-base").backend_tokenizer
    isolating = isolate_unknown_characters(tokenizer)
    text = "앳킨슨은 짦게느껴질정도로 잘했습니다뷁뷁 서울에서"
    before, after = (encode([text], with_truncation(t, 512, 128), 512, 128)[0] for t in (tokenizer, isolating))
    assert [text[a:b] for a, b in before.offsets if b - a > 3] == ["앳킨슨은", "짦게느껴질정도로", "잘했습니다뷁뷁"]
    assert max(b - a for a, b in after.offsets) <= 3
    assert before.offsets[-2:] == after.offsets[-2:]
