import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from koner.alignment import read_back, retag
from koner.corpus import RawSentence, check
from koner.crossing import crosses, crossing_pieces, without_crossing
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


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], False),
        (["B-PS"], False),
        (["B-PS", "I-PS"], False),
        (["O", "O"], False),
        (["I-PS", "O"], True),
        (["O", "B-PS"], True),
        (["B-LC", "B-LC"], True),
        (["B-LC", "B-OG"], True),
    ],
)
def test_a_token_crosses_where_an_entity_begins_or_ends_inside(tags, expected):
    assert crosses(tags) is expected


def test_pieces_are_taken_out_until_none_crosses(tokenizer):
    assert crossing_pieces(tokenizer, SENTENCES) == {"##오성이", "북미"}
    kept, gone = without_crossing(tokenizer, SENTENCES)
    # ##성이 shows only once ##오성이 is gone.
    assert gone == ["##오성이", "북미", "##성이"]
    assert crossing_pieces(kept, SENTENCES) == set()
    assert all(read_back(r) == list(r.sentence.entities) for r in retag(SENTENCES, kept, 32, 8))
    assert kept.get_vocab_size() == tokenizer.get_vocab_size()
    assert all(kept.token_to_id(p) == tokenizer.token_to_id(p) for p in PIECES if p not in gone)


def test_a_piece_of_one_character_stays(tokenizer):
    # Of a word that the vocabulary lacks, [UNK] is all there is.
    sentence = check(RawSentence("", "1", annotated="<홍길동:PS>이 왔다"))
    kept, gone = without_crossing(tokenizer, [sentence])
    assert gone == []
    assert kept.get_vocab() == tokenizer.get_vocab()


def test_tokenizers_of_other_kinds_stay_as_they_are():
    tokenizer = Tokenizer(BPE({"유": 0, "오": 1, "성": 2, "이": 3, "성이": 4}, [("성", "이")]))
    sentence = check(RawSentence("", "1", annotated="<유오성:PS>이"))
    kept, gone = without_crossing(tokenizer, [sentence])
    assert (kept, gone) == (tokenizer, [])
