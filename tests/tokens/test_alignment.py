import dataclasses
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from koner.corpus.checks import RawSentence, check
from koner.corpus.sentences import SENTENCE_SCHEMA, to_row
from koner.corpus.sources import read_checked, read_source
from koner.encoder.vocabulary import SPECIAL_TOKENS, UNK, make_tokenizer
from koner.errors import KonerError
from koner.labels.bio import IGNORE_INDEX, Entity
from koner.labels.klue import KLUE
from koner.storage.parquet import write_rows
from koner.tokens.alignment import (
    ALIGNED_SCHEMA,
    AlignedSentence,
    align,
    align_batch,
    aligned_from_row,
    aligned_to_row,
    oracle_entities,
    read_aligned,
)
from koner.tokens.oracle import OracleScore
from koner.tokens.windows import encode, with_truncation

PIECES = ("스타뎀", "##의", "유", "##오", "##성이", "북미", "남제주", "서울", "##에서", *"0123456789")
B_PS, I_PS, B_LC, OUT, B_QT, I_QT = 6, 7, 2, 12, 8, 9
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


def sentence(annotated, id_="id"):
    return check(RawSentence("file:1", id_, annotated=annotated))


def batch_of(sentences):
    return pa.RecordBatch.from_pylist(list(map(to_row, sentences)), SENTENCE_SCHEMA)


def align_one_by_one(sentences, tokenizer, max_length, stride):
    """The alignment of each sentence and token by itself, to compare the arrays with."""
    # Copied once, and not for each sentence.
    tokenizer = with_truncation(tokenizer, max_length, stride)
    aligned = []
    for s in sentences:
        (text,) = encode([s.text], tokenizer, max_length, stride)
        labels = tuple(
            tuple(IGNORE_INDEX if start == end else KLUE.tag_to_id[s.tags[start]] for start, end in window.offsets)
            for window in text.windows
        )
        aligned.append(AlignedSentence(s, text, labels))
    return aligned


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer({piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *PIECES])}, 128)


@pytest.fixture(scope="module")
def wordpiece(tokenizer):
    return tokenizer.backend_tokenizer


@pytest.fixture(scope="module")
def unigram():
    """A tokenizer whose tokens contain the space before a word, with a token for a space alone."""
    pieces = ["▁서울", "▁유오성이", "▁북", "미", "▁", *"0123456789스타뎀의남제주에서깋"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", -20.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def test_a_token_has_the_tag_of_its_first_character_and_a_special_token_has_none(tokenizer):
    (aligned,) = align([sentence("<스타뎀:PS>의 <유오성:PS>이 <서울:LC>에서")], tokenizer, 128, 32, KLUE)
    (window,) = aligned.windowed_text.windows
    names = tokenizer.convert_ids_to_tokens(window.input_ids)
    assert names == ["[CLS]", "스타뎀", "##의", "유", "##오", "##성이", "서울", "##에서", "[SEP]"]
    assert aligned.labels == ((-100, B_PS, OUT, B_PS, I_PS, I_PS, B_LC, OUT, -100),)
    assert aligned.windowed_text.offsets == [(0, 3), (3, 4), (5, 6), (6, 7), (7, 9), (10, 12), (12, 14)]
    assert aligned.token_tags == ["B-PS", "O", "B-PS", "I-PS", "I-PS", "B-LC", "O"]


@pytest.mark.parametrize(
    ("annotated", "entities"),
    [
        pytest.param("<스타뎀:PS>의", [Entity(0, 3, "PS")], id="the particle is a token"),
        pytest.param("<유오성:PS>이", [Entity(0, 4, "PS")], id="the particle is part of the last token"),
        pytest.param("<북:LC><미:LC>", [Entity(0, 2, "LC")], id="two entities in one token"),
        pytest.param("북<미:LC>", [], id="begins inside a token"),
        pytest.param("<12:QT><34:QT>", [Entity(0, 2, "QT"), Entity(2, 4, "QT")], id="adjacent"),
        pytest.param("서울에서", [], id="none"),
    ],
)
def test_oracle_entities_are_spans_of_characters(tokenizer, annotated, entities):
    (aligned,) = align([sentence(annotated)], tokenizer, 128, 32, KLUE)
    assert oracle_entities(aligned) == entities


def test_a_long_sentence_is_cut_into_overlapping_windows(tokenizer):
    (aligned,) = align([sentence("01<234567:QT>89")], tokenizer, 6, 2, KLUE)
    spans = [window.offsets[1:-1] for window in aligned.windowed_text.windows]
    assert spans == [tuple((i, i + 1) for i in range(start, start + 4)) for start in (0, 2, 4, 6)]
    assert aligned.labels[1] == (-100, B_QT, I_QT, I_QT, I_QT, -100)
    assert aligned.labels[2] == (-100, I_QT, I_QT, I_QT, I_QT, -100)
    assert oracle_entities(aligned) == [Entity(2, 8, "QT")]


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(KonerError, match="not a fast tokenizer"):
        align([sentence("서울")], SimpleNamespace(is_fast=False), 6, 2, KLUE)


def test_a_transformers_tokenizer_and_its_backend_give_the_same_alignment(tokenizer):
    sentences = [sentence("01<234567:QT>89"), sentence("<스타뎀:PS>의")]
    assert align(sentences, tokenizer.backend_tokenizer, 6, 2, KLUE) == align(sentences, tokenizer, 6, 2, KLUE)


def test_no_sentences_give_no_alignment(tokenizer):
    assert align([], tokenizer, 6, 2, KLUE) == []


def test_a_stride_that_is_too_large_is_refused(tokenizer):
    with pytest.raises(KonerError, match="stride: windows of max_length 6 can't share 4 tokens"):
        align([sentence("서울")], tokenizer, 6, 4, KLUE)


def test_aligned_sentences_are_stored_in_parquet(tokenizer, tmp_path):
    sentences = [sentence("<스타뎀:PS>의", "a"), sentence("01<234567:QT>89", "b"), sentence("서울", "c")]
    aligned = align(sentences, tokenizer, 6, 2, KLUE)
    assert [(a.sentence, len(a.labels)) for a in aligned] == [(sentences[0], 1), (sentences[1], 4), (sentences[2], 1)]
    write_rows(tmp_path / "part.parquet", map(aligned_to_row, aligned), ALIGNED_SCHEMA)
    assert list(read_aligned(tmp_path / "part.parquet")) == aligned


def assert_batch_equals_single_sentences(sentences, tokenizer, max_length, stride, unk_id):
    """Compare the alignment and the oracle score of a batch with those of its sentences, one at a time."""
    expected = align_one_by_one(sentences, tokenizer, max_length, stride)
    assert align(sentences, tokenizer, max_length, stride, KLUE) == expected
    batch = align_batch(batch_of(sentences), with_truncation(tokenizer, max_length, stride), KLUE)
    assert batch.rows.to_pylist() == list(map(aligned_to_row, expected))
    assert list(map(aligned_from_row, batch.rows.to_pylist())) == expected
    # Without clean sentences, no sentence takes the fast path.
    without_clean = dataclasses.replace(batch, is_clean=np.zeros(len(sentences), bool))
    score, expected_score = OracleScore("train"), OracleScore("train")
    assert list(score.add(batch, unk_id)) == list(expected_score.add(without_clean, unk_id))
    assert score == expected_score


@pytest.mark.parametrize(("max_length", "stride"), [(128, 32), (6, 2), (6, 0)])
@pytest.mark.parametrize("name", ["wordpiece", "unigram"])
@pytest.mark.parametrize("lines", [LINES, LINES[::-1], LINES[4:5]], ids=["all", "reversed", "one"])
def test_a_batch_is_aligned_and_scored_like_its_sentences(request, name, max_length, stride, lines):
    tokenizer = request.getfixturevalue(name)
    unk_id = tokenizer.token_to_id(UNK if name == "wordpiece" else "<unk>")
    sentences = [sentence(line, str(i)) for i, line in enumerate(lines)]
    assert_batch_equals_single_sentences(sentences, tokenizer, max_length, stride, unk_id)


def test_real_sentences_are_aligned_and_scored_like_single_ones(shared):
    sentences = read_checked(read_source(str(shared / "klue-ner" / "tsv"), "ner", None))["validation"]
    tokenizer = Tokenizer.from_file(str(shared / "klue-roberta-base" / "tokenizer.json"))
    assert_batch_equals_single_sentences(sentences, tokenizer, 64, 8, 1)


@pytest.mark.parametrize(
    ("max_length", "stride", "is_clean"),
    [
        (128, 32, [False, False, False, False, True, True, True, True, False]),
        # The tokens of a sentence with several windows overlap.
        (6, 2, [False, False, False, False, False, True, True, True, False]),
    ],
)
def test_a_sentence_is_clean_if_its_entities_start_and_end_with_tokens(wordpiece, max_length, stride, is_clean):
    batch = batch_of(map(sentence, LINES))
    assert align_batch(batch, with_truncation(wordpiece, max_length, stride), KLUE).is_clean.tolist() == is_clean


@pytest.fixture(scope="module")
def real(shared):
    """The real sentences from the folder in the hub's layout, and the tokenizer of klue/roberta-base."""
    parts = read_checked(read_source(str(shared / "klue-ner" / "hub"), "ner", None))
    return parts, Tokenizer.from_file(str(shared / "klue-roberta-base" / "tokenizer.json"))


# The table in ../shared/README.md, which was measured independently of this project, but for one entity: a training
# sentence has an entity that ends with a space, which is trimmed here, and is exact then (8,794 without that).
@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("train", (3200, 9003, 8969, 8795, 0.9806, 0.9769, 0.9787, 444)),
        ("validation", (800, 2312, 2309, 2274, 0.9848, 0.9836, 0.9842, 106)),
    ],
)
def test_the_oracle_score_of_real_data_is_the_independently_measured_one(real, part, expected):
    parts, tokenizer = real
    score = OracleScore(part)
    batch = align_batch(batch_of(parts[part]), with_truncation(tokenizer, 512, 128), KLUE)
    lost = list(score.add(batch, tokenizer.token_to_id(UNK)))
    metrics = score.metrics()
    counts = (metrics["sentences"], metrics["entities"], metrics["read_back"], metrics["exact"])
    precision_recall_f1 = tuple(round(metrics[name], 4) for name in ("precision", "recall", "f1"))
    assert (*counts, *precision_recall_f1, metrics["unk_tokens"]) == expected
    assert len(lost) == metrics["entities"] - metrics["exact"] == sum(metrics["lost"].values())
    assert metrics["windows"] == metrics["sentences"]
