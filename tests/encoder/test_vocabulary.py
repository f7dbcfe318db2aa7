import pytest

from koner.encoder.vocabulary import SPECIAL_TOKENS, build_vocabulary, make_tokenizer

TEXTS = [
    "스타뎀의 액션을 봤다",
    "스타뎀이 나왔다",
    "스타뎀은 강하다",
    "스타뎀과 함께",
    "역시 스타뎀의 영화",
    "2014년 3월 5일",
    "한 번 본 鄭",
]


@pytest.fixture(scope="module")
def vocabulary():
    return build_vocabulary(TEXTS, 2)


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return make_tokenizer(vocabulary, 128)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("스타뎀의", ["스타뎀", "##의"], id="particle"),
        pytest.param("스타뎀은", ["스타뎀", "##은"], id="another particle"),
        pytest.param("스타뎀까지", ["스타뎀", "##까", "##지"], id="particle that is not in the texts"),
        pytest.param("2014", ["2", "0", "1", "4"], id="digits"),
        pytest.param("35m", ["3", "5", "m"], id="digits and letters"),
        pytest.param("鄭", ["鄭"], id="Hanja of the texts"),
    ],
)
def test_text_is_split_at_morphemes_and_digits(tokenizer, text, tokens):
    assert tokenizer.tokenize(text) == tokens


@pytest.mark.parametrize("text", ["ㅋㅋ", "ㅠㅠㅠ", "ㅇㅈ", "가나다힝", "Abc!?", "3㎏", "①", "(서울)"])
def test_common_characters_are_known(tokenizer, text):
    assert tokenizer.tokenize(text)
    assert "[UNK]" not in tokenizer.tokenize(text)


def test_a_character_that_is_neither_common_nor_in_the_texts_is_unknown(tokenizer):
    assert tokenizer.tokenize("漢") == ["[UNK]"]


def test_special_tokens_have_the_ids_of_klue_roberta_base(vocabulary, tokenizer):
    assert list(vocabulary)[:5] == list(SPECIAL_TOKENS)
    assert [vocabulary[token] for token in ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")] == [0, 1, 2, 3, 4]
    assert tokenizer("스타뎀")["input_ids"] == [0, vocabulary["스타뎀"], 2]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (1, 3, 4)


def test_ids_are_consecutive(vocabulary):
    assert list(vocabulary.values()) == list(range(len(vocabulary)))


def test_a_rare_morpheme_is_not_a_token(vocabulary):
    assert "스타뎀" in vocabulary
    assert "함께" not in vocabulary


def test_the_same_texts_give_the_same_vocabulary(vocabulary):
    assert list(build_vocabulary(iter(TEXTS), 2).items()) == list(vocabulary.items())


def test_offsets_are_those_of_the_original_text(tokenizer):
    encoded = tokenizer("ㅋㅋ 스타뎀의", return_offsets_mapping=True)
    assert encoded["offset_mapping"] == [(0, 0), (0, 1), (1, 2), (3, 6), (6, 7), (0, 0)]
