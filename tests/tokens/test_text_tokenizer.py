import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece

from koner.corpus.checks import RawSentence, check
from koner.encoder.vocabulary import SPECIAL_TOKENS, UNK, make_tokenizer
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.tokens.alignment import align, oracle_entities
from koner.tokens.long_words import LONGEST_WORD
from koner.tokens.text_tokenizer import TextTokenizer
from koner.tokens.windows import encode

LONGER_PIECES = ["홍길동", "##홍길동", "서울", "##서울", "##울시", "에서", "##에서", "##가가"]
SINGLE_PIECES = [form for letter in "홍길동서울시이에가한하kgfi" for form in (letter, f"##{letter}")]
RUNS = st.lists(
    st.sampled_from(["홍길동", "서울", "울시", "이", "에서", "가", "한", "㎏", "ﬁ", "\u1112\u1161"]), min_size=40
)


@pytest.fixture(scope="module")
def wordpiece():
    pieces = [*SPECIAL_TOKENS, *LONGER_PIECES, *SINGLE_PIECES]
    return make_tokenizer({piece: i for i, piece in enumerate(pieces)}, 128).backend_tokenizer


def without_limit(tokenizer):
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.model.max_input_chars_per_word = 1 << 20
    return copy


def tokens(encoding):
    """Return the ids of the tokens of a text without special tokens, with their spans."""
    windows = [encoding, *encoding.overflowing]
    return [pair for w in windows for pair in zip(w.ids, w.offsets, strict=True) if pair[1][0] < pair[1][1]]


@given(st.lists(st.builds("".join, RUNS), min_size=1, max_size=3))
def test_the_tokens_of_a_long_word_are_those_of_wordpiece_without_a_limit(wordpiece, words):
    text = " ".join(words)
    (encoding,) = TextTokenizer(wordpiece, None).encode_batch([text])
    expected = without_limit(wordpiece).encode(text)
    assert (encoding.ids, encoding.offsets) == (expected.ids, expected.offsets)


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from(["가", "이", "한"]))
def test_an_entity_in_a_long_run_keeps_its_tokens(wordpiece, before, after, letter):
    annotated = f"{letter * before}<홍길동:PS>{letter * after}에서<서울:LC>이 <서울:LC>에서"
    sentence = check(RawSentence("", "1", annotated=annotated))
    (aligned,) = align([sentence], wordpiece, 64, 16, KLUE)
    assert oracle_entities(aligned) == list(sentence.entities)
    unknown = wordpiece.token_to_id("[UNK]")
    assert unknown not in aligned.windowed_text.token_ids


@pytest.mark.parametrize("length", [2, LONGEST_WORD, LONGEST_WORD + 1, 20_000])
def test_an_unknown_character_of_a_long_word_is_one_unknown_token(wordpiece, length):
    text = "가" * length + "뷁" + "홍길동" * length
    (encoding,) = TextTokenizer(wordpiece, None).encode_batch([text])
    if len(text) > LONGEST_WORD:
        unknown = wordpiece.token_to_id("[UNK]")
        assert [span for id_, span in tokens(encoding) if id_ == unknown] == [(length, length + 1)]
        assert tokens(encoding)[-1] == (wordpiece.token_to_id("##홍길동"), (len(text) - 3, len(text)))
    assert tokens(encoding)[-1][1][1] == len(text)


def test_long_and_short_texts_of_a_batch_keep_their_places(wordpiece):
    texts = ["서울", "가" * 300, "", "홍길동", "이" * 101]
    tokenizer = TextTokenizer(wordpiece, 32, 8)
    together = [tokens(encoding) for encoding in tokenizer.encode_batch(texts)]
    assert together == [tokens(tokenizer.encode_batch([text])[0]) for text in texts]
    assert all(len(w) <= 32 for e in tokenizer.encode_batch(texts) for w in [e, *e.overflowing])


NAMES = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "<s>", "<unk>"]
LETTERS = ["가", "나", "[", "]", "<", ">", *"CLSEPADUNKMsunk"]


def word_level(whole_words):
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate([*NAMES, *LETTERS])}, "[UNK]"))
    split = pre_tokenizers.WhitespaceSplit() if whole_words else pre_tokenizers.Split("", "isolated")
    tokenizer.pre_tokenizer = split
    return tokenizer


def word_piece():
    pieces = [*NAMES, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def unigram():
    # As in the vocabularies of SentencePiece, control tokens have the best score.
    vocabulary = [*((name, 0.0) for name in NAMES), *((letter, -3.0) for letter in ["▁", *LETTERS])]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=NAMES.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def bpe(ignore_merges):
    vocabulary = {piece: i for i, piece in enumerate([*NAMES, *LETTERS, "<s"])}
    merges = [("<", "s"), ("<s", ">")]
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=NAMES[-1], ignore_merges=ignore_merges, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        pytest.param(word_piece(), id="WordPiece"),
        pytest.param(word_level(whole_words=True), id="WordLevel"),
        pytest.param(unigram(), id="Unigram"),
        pytest.param(bpe(ignore_merges=False), id="BPE"),
        pytest.param(bpe(ignore_merges=True), id="BPE with whole words"),
    ],
)
@pytest.mark.parametrize("are_declared", [True, False])
@given(st.lists(st.sampled_from([*NAMES, *LETTERS, " "]), max_size=12).map("".join))
def test_the_names_of_control_tokens_are_text(tokenizer, are_declared, text):
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    if are_declared:
        tokenizer.add_special_tokens(NAMES)
    controls = set(range(len(NAMES))) if are_declared else {0, 1, tokenizer.token_to_id("[UNK]")}
    unknown = {NAMES.index("[UNK]"), NAMES.index("<unk>")}
    (encoding,) = TextTokenizer(tokenizer, None).encode_batch([text])
    assert (encoding.ids[0], encoding.ids[-1]) == (0, 1)
    spans = [span for _, span in tokens(encoding)]
    assert controls.isdisjoint({id_ for id_, _ in tokens(encoding)} - unknown)
    covered = {i for start, end in spans for i in range(start, end)}
    assert covered >= {i for i, character in enumerate(text) if character != " "}


def test_the_name_of_a_control_token_has_the_tokens_of_its_characters(wordpiece):
    text = "서울[SEP]서울 [MASK] <s>"
    (encoding,) = TextTokenizer(wordpiece, None).encode_batch([text])
    read = [text[start:end] for _, (start, end) in tokens(encoding)]
    assert read == ["서울", "[", "SEP", "]", "서울", "[", "MASK", "]", "<", "s", ">"]
    assert encoding.ids[-1] == wordpiece.token_to_id("[SEP]")


def test_the_ids_of_tokens_of_texts_are_all_but_those_of_control_tokens(wordpiece):
    controls = {wordpiece.token_to_id(name) for name in ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")}
    assert TextTokenizer(wordpiece, None).text_token_ids == sorted({*range(wordpiece.get_vocab_size())} - controls)


def test_an_added_token_that_is_no_control_token_keeps_its_id(wordpiece):
    tokenizer = Tokenizer.from_str(wordpiece.to_str())
    tokenizer.add_special_tokens([AddedToken("[E1]")])
    tokenizer.add_tokens(["코로나"])
    (encoding,) = TextTokenizer(tokenizer, None).encode_batch(["[E1] 코로나"])
    assert tokenizer.token_to_id("코로나") == tokenizer.get_vocab_size() - 1
    assert tokens(encoding)[-1] == (tokenizer.token_to_id("코로나"), (5, 8))
    assert tokenizer.token_to_id("[E1]") not in encoding.ids


def test_bpe_reads_a_text_always_the_same_and_unknown_characters_one_by_one():
    tokenizer = bpe(ignore_merges=False)
    tokenizer.model.dropout = 0.9
    encodings = TextTokenizer(tokenizer, None).encode_batch(["<s漢字"] * 20)
    assert {tuple(encoding.offsets) for encoding in encodings} == {((0, 2), (2, 3), (3, 4))}


def test_unigram_reads_unknown_characters_one_by_one():
    (encoded,) = encode(["漢字가가 漢"], unigram(), 32, 8)
    assert encoded.offsets == [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6)]


@given(st.text(st.characters(), max_size=20))
def test_any_text_is_read_and_the_offsets_are_its_own(wordpiece, text):
    (encoding,) = TextTokenizer(wordpiece, None).encode_batch([text + "\U0010ffff\ud800 서울"])
    assert tokens(encoding)[-1][1] == (len(text) + 3, len(text) + 5)


def test_the_original_is_not_changed(wordpiece):
    before = wordpiece.to_str()
    TextTokenizer(wordpiece, 16, 4).encode_batch(["가" * 200])
    assert wordpiece.to_str() == before


def test_a_tokenizer_that_reports_no_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(KonerError, match="does not report offsets"):
        TextTokenizer(Slow(), 16, 4)
