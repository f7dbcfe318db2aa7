import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from koner.alignment import retag, retagged_from_row, retagged_to_row
from koner.ceiling import Ceiling
from koner.corpus import SENTENCE_SCHEMA, RawSentence, check, from_row, to_row
from koner.encoding import windowed
from koner.retagging import retag_batch
from koner.sources import read_checked, read_source
from koner.vocabulary import SPECIAL_TOKENS, UNK, make_tokenizer

PIECES = ("스타뎀", "##의", "유", "##오", "##성이", "북미", "남제주", "서울", "##에서", *"0123456789")
LINES = [
    "<스타뎀:PS>의 <유오성:PS>이 <서울:LC>에서",
    "<북:LC><미:LC>",
    "<북:LC><미:OG> <깋:PS>",
    "남<제주:LC> 서울",
    "01<234567:QT>89",
    "<12:QT><34:QT>",
    "깋",
    "<서울:LC>",
    "서울 <\u200b:PS>",
]


def batch_of(lines):
    sentences = [check(RawSentence("file:1", str(i), annotated=line)) for i, line in enumerate(lines)]
    return pa.RecordBatch.from_pylist(list(map(to_row, sentences)), SENTENCE_SCHEMA)


@pytest.fixture(scope="module")
def wordpiece():
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *PIECES])}
    return make_tokenizer(vocabulary, 128).backend_tokenizer


@pytest.fixture(scope="module")
def with_spaces():
    """A tokenizer whose tokens hold the space before a word, and which has a token for a space alone."""
    pieces = ["▁서울", "▁유오성이", "▁북", "미", "▁", *"0123456789스타뎀의남제주에서깋"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", -20.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


@pytest.mark.parametrize("boundaries", [True, False])
@pytest.mark.parametrize(("max_length", "stride"), [(128, 32), (6, 2), (6, 0)])
@pytest.mark.parametrize("name", ["wordpiece", "with_spaces"])
@pytest.mark.parametrize("lines", [LINES, LINES[::-1], LINES[4:5]], ids=["all", "reversed", "one"])
def test_a_batch_is_retagged_and_counted_as_its_sentences_are(request, name, max_length, stride, boundaries, lines):
    tokenizer = windowed(request.getfixturevalue(name), max_length, stride)
    unk = tokenizer.token_to_id(UNK if name == "wordpiece" else "<unk>")
    batch = batch_of(lines)
    one_by_one = retag(list(map(from_row, batch.to_pylist())), tokenizer, max_length, stride, boundaries)
    apart, together = Ceiling("train"), Ceiling("train")
    losses = [loss for retagged in one_by_one for loss in apart.add(retagged, unk)]
    found = retag_batch(batch, tokenizer, boundaries)
    assert found.rows.to_pylist() == list(map(retagged_to_row, one_by_one))
    assert list(map(retagged_from_row, found.rows.to_pylist())) == one_by_one
    assert list(together.add_batch(found, unk)) == losses
    assert together == apart


def test_a_sentence_is_clean_where_its_entities_end_with_tokens(wordpiece):
    found = retag_batch(batch_of(LINES), windowed(wordpiece, 128, 32), True)
    assert found.clean.tolist() == [False, False, False, False, True, True, True, True, False]
    # The tokens of 6 with 2 to share overlap where a sentence has several windows.
    found = retag_batch(batch_of(LINES), windowed(wordpiece, 6, 2), True)
    assert found.clean.tolist() == [False, False, False, False, False, True, True, True, False]


def test_real_sentences_are_retagged_and_counted_as_one_by_one(shared):
    sentences = read_checked(read_source(str(shared / "klue-ner" / "tsv"), "ner", None))["validation"]
    backend = Tokenizer.from_file(str(shared / "klue-roberta-base" / "tokenizer.json"))
    tokenizer = windowed(backend, 64, 8)
    one_by_one = retag(sentences, tokenizer, 64, 8, True)
    found = retag_batch(pa.RecordBatch.from_pylist(list(map(to_row, sentences)), SENTENCE_SCHEMA), tokenizer, True)
    apart, together = Ceiling("validation"), Ceiling("validation")
    losses = [loss for retagged in one_by_one for loss in apart.add(retagged, 1)]
    assert found.rows.to_pylist() == list(map(retagged_to_row, one_by_one))
    assert list(together.add_batch(found, 1)) == losses
    assert together == apart
