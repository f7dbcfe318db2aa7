import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from koner.corpus.checks import RawSentence, check
from koner.encoder.pruning import boundary_words, crossing_pieces, prune_crossing_pieces
from koner.encoder.vocabulary import SPECIAL_TOKENS, make_tokenizer
from koner.labels.klue import KLUE
from koner.tokens.alignment import align, oracle_entities

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


def test_boundary_words_are_collected_once():
    lines = ["<서울:LC>에서 <김:PS><이:PS> 산다", "<서울:LC>에서 <한국 은행:OG>이", "<서울:LC> 갔다"]
    sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(lines)]
    # 한국 은행 ends after the second character of its last word; no entity begins or ends inside 한국 or 서울.
    assert boundary_words(sentences) == {("서울에서", (2,)), ("김이", (1,)), ("은행이", (2,))}


def test_pieces_are_removed_until_none_crosses_a_boundary(tokenizer):
    words = boundary_words(SENTENCES)
    assert crossing_pieces(tokenizer, words) == {("유오성이", (3,)): {"##오성이"}, ("북미에", (1, 2)): {"북미"}}
    pruned, removed = prune_crossing_pieces(tokenizer, words)
    # ##성이 is used only after ##오성이 is removed.
    assert removed == ["##오성이", "북미", "##성이"]
    assert crossing_pieces(pruned, words) == {}
    assert all(oracle_entities(a) == list(a.sentence.entities) for a in align(SENTENCES, pruned, 32, 8, KLUE))
    assert pruned.get_vocab_size() == tokenizer.get_vocab_size()
    assert all(pruned.token_to_id(p) == tokenizer.token_to_id(p) for p in PIECES if p not in removed)


def test_a_piece_of_one_character_is_not_removed(tokenizer):
    # A word that the vocabulary lacks has no piece but [UNK].
    sentence = check(RawSentence("", "1", annotated="<홍길동:PS>이 왔다"))
    pruned, removed = prune_crossing_pieces(tokenizer, boundary_words([sentence]))
    assert removed == []
    assert pruned.get_vocab() == tokenizer.get_vocab()


def test_a_tokenizer_without_wordpiece_is_returned_as_it_is():
    tokenizer = Tokenizer(BPE({"유": 0, "오": 1, "성": 2, "이": 3, "성이": 4}, [("성", "이")]))
    sentence = check(RawSentence("", "1", annotated="<유오성:PS>이"))
    assert prune_crossing_pieces(tokenizer, boundary_words([sentence])) == (tokenizer, [])
