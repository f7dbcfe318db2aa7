import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from koner.alignment import read_back, retag
from koner.corpus import RawSentence, check
from koner.crossing import crossing_pieces, edged_words, without_crossing
from koner.vocabulary import SPECIAL_TOKENS, make_tokenizer

SENTENCES = [
    check(RawSentence("", str(i), annotated=line))
    for i, line in enumerate(["<유오성:PS>이 왔다", "<북:LC><미:LC>에 갔다", "<유오:PS>가 미갔다"])
]
PIECES = [
    "유",
    "##오",
    "##성이",
    "##오성이",
    "##성",
    "##이",
    "왔다",
    "북미",
    "북",
    "##미",
    "##에",
    "갔다",
    "미갔다",
    "##가",
]


@pytest.fixture
def tokenizer():
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *PIECES])
    return make_tokenizer({piece: i for i, piece in enumerate(pieces)}, 64).backend_tokenizer


def test_words_with_an_edge_inside_are_kept_once():
    lines = ["<서울:LC>에서 <김:PS><이:PS> 산다", "<서울:LC>에서 <한국 은행:OG>이", "<서울:LC> 갔다"]
    sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(lines)]
    # 한국 은행 ends after the second character of its last word; no edge lies inside 한국 or 서울.
    assert edged_words(sentences) == {("서울에서", (2,)), ("김이", (1,)), ("은행이", (2,))}


def test_pieces_are_taken_out_until_none_crosses(tokenizer):
    words = edged_words(SENTENCES)
    assert crossing_pieces(tokenizer, words) == {("유오성이", (3,)): {"##오성이"}, ("북미에", (1, 2)): {"북미"}}
    kept, gone = without_crossing(tokenizer, words)
    # ##성이 shows only once ##오성이 is gone.
    assert gone == ["##오성이", "북미", "##성이"]
    assert crossing_pieces(kept, words) == {}
    assert all(read_back(r) == list(r.sentence.entities) for r in retag(SENTENCES, kept, 32, 8))
    assert kept.get_vocab_size() == tokenizer.get_vocab_size()
    assert all(kept.token_to_id(p) == tokenizer.token_to_id(p) for p in PIECES if p not in gone)


def test_a_piece_of_one_character_stays(tokenizer):
    # Of a word that the vocabulary lacks, [UNK] is all there is.
    sentence = check(RawSentence("", "1", annotated="<홍길동:PS>이 왔다"))
    kept, gone = without_crossing(tokenizer, edged_words([sentence]))
    assert gone == []
    assert kept.get_vocab() == tokenizer.get_vocab()


def test_tokenizers_of_other_kinds_stay_as_they_are():
    tokenizer = Tokenizer(BPE({"유": 0, "오": 1, "성": 2, "이": 3, "성이": 4}, [("성", "이")]))
    sentence = check(RawSentence("", "1", annotated="<유오성:PS>이"))
    kept, gone = without_crossing(tokenizer, edged_words([sentence]))
    assert (kept, gone) == (tokenizer, [])
