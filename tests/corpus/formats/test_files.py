"""Small files in every format give the sentences that they hold, to the character."""

import json
import unicodedata

import pytest

from koner.corpus.formats import tokens
from koner.corpus.source_report import Rules, SourceReport
from koner.labels.bio import Entity
from tests.corpus.formats.files import (
    BRAT,
    BRAT_TEXT,
    CONLL_U,
    DECOMPOSED,
    DOCCANO,
    ENTITIES,
    FILES,
    PRODIGY,
    SENTENCES,
    TEXTS,
    lines,
    task,
    utf16,
)
from tests.corpus.formats.reading import pairs, read, refusal, write


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_recognised_and_read(tmp_path, name):
    content, format_ = FILES[name]
    report = SourceReport()
    assert pairs(read(write(tmp_path, name, content), report=report)["train"]) == SENTENCES
    assert report.format == format_


@pytest.mark.parametrize("name", [name for name, (content, _) in FILES.items() if "\n" in content])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path, name):
    content = "\ufeff" + FILES[name][0].replace("\n", "\r\n")
    assert pairs(read(write(tmp_path, name, content))["train"]) == SENTENCES


@pytest.mark.parametrize("name", ["ud.conllu", "inline.txt", "doccano.jsonl", "nikl.json", "klue.tsv"])
def test_a_file_in_cp949_is_read_if_the_encoding_says_so(tmp_path, name):
    # CP949 has no emoji; the star is one code point as well.
    content = FILES[name][0].replace("🎉", "★").encode("cp949")
    (first, _) = read(write(tmp_path, name, content), encoding="cp949")["train"]
    assert (first.text, first.entities) == (TEXTS[0].replace("🎉", "★"), ENTITIES[0])


def test_brat_is_read_with_the_file_beside_it(tmp_path):
    write(tmp_path, "a.txt", BRAT_TEXT)
    write(tmp_path, "a.ann", BRAT)
    report = SourceReport()
    assert pairs(read(tmp_path, report=report)["train"]) == SENTENCES
    assert report.format == "brat"
    assert report.counts == {"skipped_annotations": 1}


def test_brat_offsets_count_the_carriage_returns_of_the_file(tmp_path):
    write(tmp_path, "a.txt", BRAT_TEXT.replace("\n", "\r\n"))
    write(tmp_path, "a.ann", BRAT.replace("18 19", "19 20").replace("21 23", "22 24"))
    assert pairs(read(tmp_path)["train"]) == SENTENCES


def test_offsets_of_decomposed_text_are_those_of_its_characters(tmp_path):
    text = f"{DECOMPOSED}에"
    path = write(tmp_path, "a.jsonl", lines([{"text": text, "label": [[0, len(DECOMPOSED), "LC"]]}]))
    assert pairs(read(path)["train"]) == [("서울에", (Entity(0, 2, "LC"),))]
    path = write(tmp_path, "b.jsonl", lines([{"text": text, "label": [[0, len(DECOMPOSED) - 1, "LC"]]}]))
    assert "begins or ends inside a composed character" in refusal(path)


SCHEMES = {
    "BIO, written B-PS": "B-LC I-LC O B-PS B-PS",
    "IOB1, written B-PS": "I-LC I-LC O I-PS B-PS",
    "BIOES, written B-PS": "B-LC E-LC O S-PS S-PS",
    "BILOU, written B-PS": "B-LC L-LC O U-PS U-PS",
    "BMES, written B-PS": "B-LC E-LC O S-PS S-PS B-LC M-LC E-LC",
    "BIO, written PS-B": "LC-B LC-I O PS-B PS-B",
    "BIO, written B_PS": "B_LC I_LC O B_PS B_PS",
    "BIO, written PS_B and -": "LC_B LC_I - PS_B PS_B",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tag_scheme_is_recognised(tmp_path, scheme):
    tags = SCHEMES[scheme].split()
    words = ["서울", "시청", "앞", "김", "이", "서울", "시", "청"][: len(tags)]
    report = SourceReport()
    path = write(tmp_path, "a.conll", "".join(f"{w} {t}\n" for w, t in zip(words, tags, strict=True)))
    (sentence,) = read(path, report=report)["train"]
    expected = (Entity(0, 5, "LC"), Entity(8, 9, "PS"), Entity(10, 11, "PS"), Entity(12, 18, "LC"))
    assert sentence.entities == expected[: 3 if len(tags) == 5 else 4]
    assert report.schemes == {scheme: ["a.conll"]}


def test_tags_without_letters_are_io(tmp_path):
    report = SourceReport()
    path = write(tmp_path, "a.conll", "서울 LC\n시청 LC\n앞 O\n김씨 PS\n")
    assert read(path, report=report)["train"][0].entities == (Entity(0, 5, "LC"), Entity(8, 10, "PS"))
    assert list(report.schemes) == ["IO, written PS"]


def test_tagged_lines_are_read(tmp_path):
    path = write(tmp_path, "a.txt", "홍길동 씨는 서울 시청에\tPS-B O LC-B LC-I\n안녕\tO\n")
    report = SourceReport()
    first, second = read(path, report=report)["train"]
    assert (first.text, first.entities) == ("홍길동 씨는 서울 시청에", (Entity(0, 3, "PS"), Entity(7, 13, "LC")))
    assert second.text == "안녕"
    assert report.format == "lines"


def test_a_named_column_holds_the_tags(tmp_path):
    path = write(tmp_path, "a.tsv", "NER\tForm\tPOS\nB-LC\t서울역\tNNP\nO\t에서\tJKB\n")
    assert pairs(read(path)["train"]) == [("서울역 에서", (Entity(0, 3, "LC"),))]


NESTED = {"text": "서울대학교", "label": [[0, 5, "OG"], [0, 2, "LC"]]}


@pytest.mark.parametrize(("overlaps", "kept"), [("outermost", Entity(0, 5, "OG")), ("innermost", Entity(0, 2, "LC"))])
def test_of_nested_entities_one_is_kept_and_the_other_counted(tmp_path, overlaps, kept):
    report = SourceReport()
    path = write(tmp_path, "a.jsonl", lines([NESTED]))
    assert read(path, Rules(overlaps=overlaps), report)["train"][0].entities == (kept,)
    assert report.counts == {"dropped_overlaps": 1}


def test_white_space_at_the_edge_of_an_entity_is_trimmed_and_counted(tmp_path):
    report = SourceReport()
    path = write(tmp_path, "a.jsonl", lines([{"text": "나는 서울 갔다", "label": [[2, 6, "LC"]]}]))
    assert read(path, report=report)["train"][0].entities == (Entity(3, 5, "LC"),)
    assert report.counts == {"trimmed": 1}


def test_an_illegal_tag_is_repaired_counted_and_listed(tmp_path):
    report = SourceReport()
    path = write(tmp_path, "a.conll", "서울 B-LC\n앞 O\n김씨 I-PS\n시청 B-LC\n")
    assert "tag 'I-PS' on token 3 '김씨' continues no entity of its type" in refusal(path)
    with report.list_in(tmp_path / "changes.csv"):
        (sentence,) = read(path, Rules(illegal_bio="repair"), report)["train"]
    assert sentence.entities == (Entity(0, 2, "LC"), Entity(5, 7, "PS"), Entity(8, 10, "LC"))
    assert report.counts == {"repaired_tags": 1}
    header, row = (tmp_path / "changes.csv").read_text(encoding="utf-8").splitlines()
    assert header == "change,where,id,detail"
    assert row.startswith("repaired_tags,a.conll:1,a-line-1,tag 'I-PS' on token 3")


def test_of_several_annotations_of_a_task_the_newest_valid_one_is_read(tmp_path):
    old, new, cancelled = (task(0)["annotations"][0] for _ in range(3))
    first = task(0) | {
        "annotations": [
            new | {"id": 2, "updated_at": "2024-02-01"},
            old | {"id": 1, "result": [], "updated_at": "2024-01-01"},
            cancelled | {"id": 3, "result": [], "was_cancelled": True, "updated_at": "2024-03-01"},
        ]
    }
    skipped = task(1, was_cancelled=True)
    report = SourceReport()
    path = write(tmp_path, "a.json", json.dumps([first, skipped]))
    assert pairs(read(path, report=report)["train"]) == SENTENCES[:1]
    assert report.counts == {"cancelled_annotations": 2, "other_annotations": 1, "skipped_sentences": 1}


def test_examples_that_an_annotator_rejected_are_left_out_and_counted(tmp_path):
    report = SourceReport()
    path = write(tmp_path, "a.jsonl", PRODIGY.replace("accept", "reject", 1))
    assert pairs(read(path, report=report)["train"]) == SENTENCES[1:]
    assert report.counts == {"skipped_sentences": 1}


def test_label_studio_offsets_in_utf_16_are_converted_and_counted(tmp_path):
    report = SourceReport()
    read(write(tmp_path, "a.json", json.dumps([task(0, utf16), task(1, utf16)])), report=report)
    # The second text has no character of two units.
    assert report.counts == {"converted_offsets": 1}


def test_offsets_that_no_text_of_an_entity_proves_are_counted(tmp_path):
    report = SourceReport()
    assert pairs(read(write(tmp_path, "a.jsonl", DOCCANO), report=report)["train"]) == SENTENCES
    # The first text has an emoji before its entities.
    assert report.counts == {"unproven_offsets": 1}


def test_parts_are_told_by_names_of_files(tmp_path):
    for name in ("my-train.jsonl", "my-dev.jsonl", "my-test.jsonl"):
        write(tmp_path, name, DOCCANO)
    write(tmp_path, "README.md", "# about\n")
    write(tmp_path, "labels.json", "{}")
    assert list(read(tmp_path)) == ["train", "validation", "test"]


def test_parts_are_told_by_a_field_of_the_records(tmp_path):
    records = [
        json.loads(line) | {"id": i, "split": s}
        for i, s in enumerate(("test", "train", "dev"))
        for line in DOCCANO.splitlines()[:1]
    ]
    parts = read(write(tmp_path, "all.jsonl", lines(records)))
    assert {part: [s.id for s in sentences] for part, sentences in parts.items()} == {
        "train": ["1"],
        "validation": ["2"],
        "test": ["0"],
    }


def test_words_with_their_text_keep_its_white_space(tmp_path):
    row = {"tokens": ["서울", "시청", "앞"], "ner_tags": ["B-LC", "I-LC", "O"], "text": "서울  시청앞"}
    assert pairs(read(write(tmp_path, "a.jsonl", lines([row])))["train"]) == [("서울  시청앞", (Entity(0, 6, "LC"),))]
    message = refusal(write(tmp_path, "b.jsonl", lines([row | {"text": "서울 구청앞"}])))
    assert "token 2 '시청' is not where the text goes on: '서울 구청앞'" in message


@pytest.mark.parametrize(
    ("name", "count"),
    [("konec-tsv", {"train": 3200, "validation": 800}), ("konne-doccano", {"train": 3200, "validation": 800})],
)
def test_a_real_corpus_is_read_in_full(shared, name, count):
    report = SourceReport()
    parts = read(shared / "corpora" / name, Rules(overlaps="outermost"), report)
    assert {part: len(sentences) for part, sentences in parts.items()} == count
    labels = {entity.label for sentences in parts.values() for s in sentences for entity in s.entities}
    assert len(labels) > 120
    for sentences in parts.values():
        for sentence in sentences:
            assert sentence.text == unicodedata.normalize("NFC", sentence.text)
            assert all(sentence.text[e.start : e.end].strip() for e in sentence.entities)


def test_a_large_file_is_read_as_a_small_one(tmp_path, monkeypatch):
    """Only the sentences of small files are kept while the scheme is recognised."""
    path = write(tmp_path, "a.conll", CONLL_U)
    small = pairs(read(path)["train"])
    monkeypatch.setattr(tokens, "_KEPT", 1)
    assert pairs(read(path)["train"]) == small == SENTENCES


def test_a_text_of_100000_characters_is_read(tmp_path):
    text = "서울 " * 30_000 + "부산 시청"
    label = [[i * 3, i * 3 + 2, "LC"] for i in range(30_000)]
    (sentence,) = read(write(tmp_path, "a.jsonl", lines([{"text": text, "label": label}])))["train"]
    assert (len(sentence.text), len(sentence.entities)) == (90_005, 30_000)


def test_offsets_in_utf_16_are_converted_in_a_text_of_100000_characters(tmp_path):
    text = "📱" * 10_000 + "서울 " * 30_000
    spans = [{"start": i, "end": i + 2, "text": "서울", "labels": ["LC"]} for i in range(20_000, 110_000, 3)]
    row = {"id": 1, "text": text, "label": spans}
    (sentence,) = read(write(tmp_path, "a.json", json.dumps([row])))["train"]
    assert [sentence.entities[i] for i in (0, -1)] == [Entity(10_000, 10_002, "LC"), Entity(99_997, 99_999, "LC")]
