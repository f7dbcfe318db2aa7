from types import SimpleNamespace

import pytest

from koner.alignment import (
    RETAGGED_SCHEMA,
    read_back,
    read_retagged,
    retag,
    retagged_to_row,
    types_in,
)
from koner.ceiling import Ceiling
from koner.corpus import RawSentence, check
from koner.errors import KonerError
from koner.labels import Entity
from koner.parquet import write_rows
from koner.sources import read_checked, read_source
from koner.vocabulary import SPECIAL_TOKENS, make_tokenizer

PIECES = ("스타뎀", "##의", "유", "##오", "##성이", "북미", "서울", "##에서", *"0123456789")
B_PS, I_PS, B_LC, OUT, B_QT, I_QT = 6, 7, 2, 12, 8, 9


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer({piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *PIECES])}, 128)


def sentence(annotated, id_="id"):
    return check(RawSentence("file:1", id_, annotated=annotated))


def test_a_token_takes_the_tag_of_its_first_character_and_special_tokens_none(tokenizer):
    (retagged,) = retag([sentence("<스타뎀:PS>의 <유오성:PS>이 <서울:LC>에서")], tokenizer, 128, 32)
    (window,) = retagged.encoded.windows
    names = tokenizer.convert_ids_to_tokens(window.input_ids)
    assert names == ["[CLS]", "스타뎀", "##의", "유", "##오", "##성이", "서울", "##에서", "[SEP]"]
    assert retagged.labels == ((-100, B_PS, OUT, B_PS, I_PS, I_PS, B_LC, OUT, -100),)
    assert retagged.encoded.offsets == [(0, 3), (3, 4), (5, 6), (6, 7), (7, 9), (10, 12), (12, 14)]
    assert retagged.token_tags == ["B-PS", "O", "B-PS", "I-PS", "I-PS", "B-LC", "O"]


@pytest.mark.parametrize(
    ("annotated", "entities"),
    [
        pytest.param("<스타뎀:PS>의", [Entity(0, 3, "PS")], id="the particle is a token"),
        pytest.param("<유오성:PS>이", [Entity(0, 4, "PS")], id="the particle is glued to the last token"),
        pytest.param("<북:LC><미:LC>", [Entity(0, 2, "LC")], id="two entities in one token"),
        pytest.param("북<미:LC>", [], id="begins inside a token"),
        pytest.param("<12:QT><34:QT>", [Entity(0, 2, "QT"), Entity(2, 4, "QT")], id="adjacent"),
        pytest.param("서울에서", [], id="none"),
    ],
)
def test_entities_are_read_back_as_characters(tokenizer, annotated, entities):
    (retagged,) = retag([sentence(annotated)], tokenizer, 128, 32)
    assert read_back(retagged) == entities


def test_a_long_sentence_is_cut_into_overlapping_windows(tokenizer):
    (retagged,) = retag([sentence("01<234567:QT>89")], tokenizer, 6, 2)
    spans = [window.offsets[1:-1] for window in retagged.encoded.windows]
    assert spans == [tuple((i, i + 1) for i in range(start, start + 4)) for start in (0, 2, 4, 6)]
    assert retagged.labels[1] == (-100, B_QT, I_QT, I_QT, I_QT, -100)
    assert retagged.labels[2] == (-100, I_QT, I_QT, I_QT, I_QT, -100)
    assert read_back(retagged) == [Entity(2, 8, "QT")]


def test_a_tokenizer_that_tells_no_offsets_is_refused():
    with pytest.raises(KonerError, match="not a fast tokenizer"):
        retag([sentence("서울")], SimpleNamespace(is_fast=False), 6, 2)


def test_both_kinds_of_tokenizer_give_the_same(tokenizer):
    sentences = [sentence("01<234567:QT>89"), sentence("<스타뎀:PS>의")]
    assert retag(sentences, tokenizer.backend_tokenizer, 6, 2) == retag(sentences, tokenizer, 6, 2)


def test_a_stride_that_leaves_no_room_is_refused(tokenizer):
    with pytest.raises(KonerError, match="stride: 4 tokens leave no room"):
        retag([sentence("서울")], tokenizer, 6, 4)


def test_types_in_a_token():
    assert types_in(["B-PS", "I-PS", "O", "B-LC"], (1, 4)) == {"PS", "LC"}
    assert types_in(["B-PS", "O", "O"], (1, 3)) == set()


def test_what_is_retagged_is_kept_in_parquet(tokenizer, tmp_path):
    sentences = [sentence("<스타뎀:PS>의", "a"), sentence("01<234567:QT>89", "b"), sentence("서울", "c")]
    retagged = retag(sentences, tokenizer, 6, 2)
    assert [(r.sentence, len(r.labels)) for r in retagged] == [(sentences[0], 1), (sentences[1], 4), (sentences[2], 1)]
    write_rows(tmp_path / "part.parquet", map(retagged_to_row, retagged), RETAGGED_SCHEMA)
    assert list(read_retagged(tmp_path / "part.parquet")) == retagged


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """The real sentences from the folder in the hub's layout, and the tokenizer of klue/roberta-base."""
    import datasets
    from transformers import AutoTokenizer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        parts = read_checked(read_source(str(shared / "klue-ner" / "hub"), "ner", None))
    return parts, AutoTokenizer.from_pretrained(shared / "klue-roberta-base", local_files_only=True)


# The table in ../shared/README.md, measured apart from this project.
@pytest.mark.parametrize(
    ("part", "figures"),
    [
        ("train", (3200, 9003, 8969, 8794, 0.9805, 0.9768, 0.9786, 444)),
        ("validation", (800, 2312, 2309, 2274, 0.9848, 0.9836, 0.9842, 106)),
    ],
)
def test_the_ceiling_on_real_data_is_the_measured_one(real, part, figures):
    parts, tokenizer = real
    ceiling = Ceiling(part)
    losses = []
    for retagged in retag(parts[part], tokenizer, 512, 128):
        losses.extend(ceiling.add(retagged, tokenizer.unk_token_id))
    found = ceiling.metrics()
    counts = (found["sentences"], found["entities"], found["read_back"], found["exact"])
    ratios = tuple(round(found[name], 4) for name in ("precision", "recall", "f1"))
    assert (*counts, *ratios, found["unk_tokens"]) == figures
    assert len(losses) == found["entities"] - found["exact"] == sum(found["lost"].values())
    assert found["windows"] == found["sentences"]
