import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner import corpus, parquet
from koner.corpus import (
    SENTENCE_SCHEMA,
    Faults,
    RawSentence,
    Sentence,
    check,
    checked,
    from_row,
    parse_inline,
    sentence_batches,
    to_row,
    write_inline,
)
from koner.errors import KonerError
from koner.labels import Entity
from koner.parquet import read_batches, read_rows, write_batches, write_rows


def nfd(text):
    return unicodedata.normalize("NFD", text)


def tagged(text, tags, annotated=None):
    return RawSentence("file:1", "id", None, list(text), tags.split(), annotated)


def inline(annotated):
    return RawSentence("file:1", "id", annotated=annotated)


@pytest.mark.parametrize(
    ("annotated", "text", "entities"),
    [
        ("비가 온다", "비가 온다", []),
        ("<서울:LC>에서", "서울에서", [Entity(0, 2, "LC")]),
        ("<3일:DT> <오전 10시:TI>", "3일 오전 10시", [Entity(0, 2, "DT"), Entity(3, 9, "TI")]),
        ("<원저우:LC>(<溫州:LC>)", "원저우(溫州)", [Entity(0, 3, "LC"), Entity(4, 6, "LC")]),
        ("<북:LC><미:LC>", "북미", [Entity(0, 1, "LC"), Entity(1, 2, "LC")]),
        ("<12:30:TI>", "12:30", [Entity(0, 5, "TI")]),
        ("<<10:QT>>점", "<10>점", [Entity(1, 3, "QT")]),
        ("<명량>은 <10점:QT>", "<명량>은 10점", [Entity(6, 9, "QT")]),
        ("1 < 2 > <김:PS>", "1 < 2 > 김", [Entity(8, 9, "PS")]),
        ("<서울:XX>", "<서울:XX>", []),
    ],
)
def test_inline_marks_are_parsed_and_written(annotated, text, entities):
    assert parse_inline(annotated) == (text, entities)
    assert write_inline(text, entities) == annotated


def test_inline_marks_are_written_in_the_order_of_the_text():
    assert write_inline("서울 부산", [Entity(3, 5, "LC"), Entity(0, 2, "LC")]) == "<서울:LC> <부산:LC>"


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("가나ab :.,", max_size=4), st.text("서울1 :", min_size=1, max_size=4))))
def test_inline_marks_survive_writing_and_parsing(pieces):
    text, entities = "", []
    for before, surface in pieces:
        start = len(text) + len(before)
        entities.append(Entity(start, start + len(surface), "LC"))
        text += before + surface
    assert parse_inline(write_inline(text, entities)) == (text, entities)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        pytest.param(
            RawSentence("file:1", "id"), "neither characters with tags nor an annotated sentence", id="no form at all"
        ),
        pytest.param(
            inline("<서울:XX>에서"),
            "'<서울:XX>' is no mark of a known type; known are DT, LC, OG, PS, QT, TI",
            id="unknown type in a mark",
        ),
        pytest.param(inline("<서울:LC>에서 <부산"), "'<' is no mark of a known type", id="half a mark"),
        pytest.param(tagged("서울에", "B-LC I-LC"), "2 tags for 3 characters", id="too few tags"),
        pytest.param(tagged("서울", "B-LC I-LC O"), "3 tags for 2 characters", id="too many tags"),
        pytest.param(tagged(["서", "울에"], "B-LC I-LC"), "token 2 is '울에', not one character", id="long token"),
        pytest.param(tagged(["서", ""], "B-LC I-LC"), "token 2 is '', not one character", id="empty token"),
        pytest.param(tagged("서울", "B-LC I-XX"), "unknown tag 'I-XX' on character 2 '울'", id="unknown tag"),
        pytest.param(
            tagged("에서울", "O I-LC I-LC"), "tag 'I-LC' on character 2 '서' continues no entity", id="I without B"
        ),
        pytest.param(
            tagged("김서울", "B-PS I-LC I-LC"), "tag 'I-LC' on character 2 '서' continues no entity", id="I after B"
        ),
        pytest.param(
            tagged("서울", "B-LC I-LC", "<부산:LC>"),
            "the annotated sentence reads '부산' but its characters spell '서울'",
            id="other characters",
        ),
        pytest.param(
            tagged("서울", "B-LC I-LC", "<서울:OG>"),
            "the annotated sentence and the tags disagree on the entities",
            id="other type",
        ),
        pytest.param(
            tagged("서울시", "B-LC I-LC O", "<서울시:LC>"),
            "the annotated sentence and the tags disagree on the entities",
            id="other end",
        ),
        pytest.param(inline(""), "the sentence is empty", id="empty"),
        pytest.param(tagged(" \u3000", "O O"), "the sentence is empty", id="blank"),
        pytest.param(
            tagged(nfd("서울"), "B-LC I-LC I-LC I-LC O"),
            "begins or ends inside a composed character",
            id="ends inside a syllable",
        ),
        pytest.param(
            tagged(nfd("서울"), "O B-LC I-LC I-LC I-LC"),
            "begins or ends inside a composed character",
            id="begins inside a syllable",
        ),
        pytest.param(
            tagged("e\u0301", "B-PS B-PS"), "begins or ends inside a composed character", id="two in one character"
        ),
    ],
)
def test_a_fault_is_named(raw, what):
    with pytest.raises(ValueError, match=re.escape(what)):
        check(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(inline("<서울:LC>에서 <3일:DT>"), id="inline only"),
        pytest.param(tagged("서울에서 3일", "B-LC I-LC O O O B-DT I-DT"), id="tags only"),
        pytest.param(tagged("서울에서 3일", "B-LC I-LC O O O B-DT I-DT", "<서울:LC>에서 <3일:DT>"), id="both"),
        pytest.param(inline(nfd("<서울:LC>에서 <3일:DT>")), id="decomposed inline"),
        pytest.param(
            tagged(nfd("서울에서 3일"), "B-LC" + " I-LC" * 4 + " O" * 5 + " B-DT" + " I-DT" * 3), id="decomposed"
        ),
    ],
)
def test_every_form_gives_the_same_sentence(raw):
    assert check(raw) == Sentence(
        "id",
        "서울에서 3일",
        None,
        ("B-LC", "I-LC", "O", "O", "O", "B-DT", "I-DT"),
        (Entity(0, 2, "LC"), Entity(5, 7, "DT")),
    )


def test_a_composed_run_of_several_code_points_opens_its_entity_once():
    # The decomposed syllable makes the sentence one to compose; q and its two marks stay three code points.
    sentence = check(tagged("q\u0323\u0301" + nfd("가"), "B-PS I-PS I-PS O O"))
    assert sentence.text == "q\u0323\u0301가"
    assert sentence.tags == ("B-PS", "I-PS", "I-PS", "O")
    assert sentence.entities == (Entity(0, 3, "PS"),)


def test_a_bracket_inside_an_entity_is_settled_by_the_tags():
    sentence = check(tagged("<10>점", "B-QT I-QT I-QT O O", "<<10:QT>>점"))
    assert sentence.entities == (Entity(0, 3, "QT"),)


def test_checked_yields_the_sound_and_notes_the_others():
    raws = [
        RawSentence("a.tsv:1", "one", annotated="서울"),
        RawSentence("a.tsv:5", "two", annotated=""),
        RawSentence("a.tsv:9", "one", annotated="부산"),
    ]
    faults = Faults()
    assert [sentence.text for sentence in checked(raws, faults)] == ["서울"]
    assert faults.count == 2
    assert faults.shown == ["a.tsv:5: two: the sentence is empty", "a.tsv:9: one: the id stands already at a.tsv:1"]


def test_no_fault_raises_nothing():
    Faults().raise_if_any()


def test_one_fault_is_one_sentence():
    faults = Faults()
    faults.add("a.tsv:1", "", "is odd")
    with pytest.raises(KonerError) as told:
        faults.raise_if_any()
    assert str(told.value) == "a.tsv:1: is odd"


@pytest.mark.parametrize(("count", "ending"), [(20, "a.tsv:20: is odd"), (25, "… and 5 more")])
def test_twenty_faults_are_shown_and_all_counted(count, ending):
    faults = Faults()
    for number in range(1, count + 1):
        faults.add(f"a.tsv:{number}", "", "is odd")
    with pytest.raises(KonerError) as told:
        faults.raise_if_any()
    message = str(told.value)
    assert message.startswith(f"{count} faults in the source:")
    assert message.count("is odd") == 20
    assert message.endswith(ending)


SENTENCES = [
    Sentence("a", "서울에", "news", ("B-LC", "I-LC", "O"), (Entity(0, 2, "LC"),)),
    Sentence("b", "😀", None, ("O",), ()),
    Sentence("c", "김 김", "reviews", ("B-PS", "O", "B-PS"), (Entity(0, 1, "PS"), Entity(2, 3, "PS"))),
    Sentence("d", "서울에", "news", ("O", "O", "O"), ()),
]


@pytest.mark.parametrize("group", [1, 2, 4, 100])
def test_parquet_keeps_every_field(tmp_path, monkeypatch, group):
    monkeypatch.setattr(parquet, "ROW_GROUP", group)
    path = tmp_path / "new" / "part.parquet"
    assert write_rows(path, map(to_row, SENTENCES), SENTENCE_SCHEMA) == 4
    assert list(map(from_row, read_rows(path))) == SENTENCES


def test_parquet_of_nothing_can_be_read(tmp_path):
    assert write_rows(tmp_path / "part.parquet", [], SENTENCE_SCHEMA) == 0
    assert list(read_rows(tmp_path / "part.parquet")) == []


def test_a_missing_parquet_file_says_what_to_run(tmp_path):
    with pytest.raises(KonerError, match=r"part\.parquet is missing; run `dvc repro`"):
        list(read_rows(tmp_path / "part.parquet"))


def test_the_bytes_of_a_parquet_file_do_not_depend_on_the_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 3)
    whole = pa.RecordBatch.from_pylist(list(map(to_row, SENTENCES)), SENTENCE_SCHEMA)
    cuts = {
        "one": [whole],
        "uneven": [whole[:1], whole[1:1], whole[1:]],
        "single": [whole[i : i + 1] for i in range(4)],
    }
    for name, batches in cuts.items():
        assert write_batches(tmp_path / name, batches, SENTENCE_SCHEMA) == 4
    written = {(tmp_path / name).read_bytes() for name in cuts}
    assert len(written) == 1
    assert [batch.num_rows for batch in read_batches(tmp_path / "one")] == [4]
    assert [row["id"] for row in read_rows(tmp_path / "one", ["id"])] == list("abcd")


@pytest.mark.parametrize("together", [1, 3, 100])
@pytest.mark.parametrize("sentences", [SENTENCES, SENTENCES[1:2], []])
def test_batches_of_sentences_are_their_rows(monkeypatch, together, sentences):
    monkeypatch.setattr(corpus, "_LAID_OUT", together)
    batches = list(sentence_batches(sentences))
    assert [row for batch in batches for row in batch.to_pylist()] == list(map(to_row, sentences))
    assert all(batch.schema.equals(SENTENCE_SCHEMA) and batch.num_rows <= together for batch in batches)


def test_the_number_of_ids_that_are_told_apart_is_not_bounded():
    raws = [RawSentence(f"a.tsv:{i}", f"id-{i % 3000}", annotated="서울") for i in range(3001)]
    faults = Faults()
    assert len(list(checked(raws, faults))) == 3000
    assert faults.shown == ["a.tsv:3000: id-0: the id stands already at a.tsv:0"]
