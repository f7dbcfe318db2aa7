"""Faults of files in every format are named with their place."""

import json

import pytest

from tests.corpus.formats.files import BRAT_TEXT, CONLL_U, DOCCANO, KLUE, lines, nikl, task, utf8, utf16
from tests.corpus.formats.reading import refusal, write

NESTED = {"text": "서울대학교", "label": [[0, 5, "OG"], [0, 2, "LC"]]}


def document(*sentences):
    return json.dumps({"document": [{"id": "1", "sentence": list(sentences)}]}, ensure_ascii=False)


FAULTS = {
    "offsets past the end": (
        "a.jsonl",
        lines([{"text": "서울", "label": [[0, 3, "LC"]]}]),
        "a.jsonl:1: a-1: the entity at 0:3 (LC) is not within the text, which has 2 code points; the offsets may count "
        "bytes",
    ),
    "offsets in bytes": ("a.json", document(nikl(0, utf8)), "show that the offsets count bytes, not code points"),
    "offsets in UTF-16": ("a.json", document(nikl(0, utf16)), "show that the offsets count UTF-16 code units"),
    "a form that differs": (
        "a.json",
        document(nikl(1) | {"form": "박은 대전으로 갔다."}),
        "NER.2: the entity at 3:5 (LC) is given as '부산', but the text there is '대전'",
    ),
    "an empty entity": ("a.jsonl", lines([{"text": "서울", "label": [[1, 1, "LC"]]}]), "does not begin before its end"),
    "an offset of text": (
        "a.jsonl",
        lines([{"text": "서울", "label": [["0", 1, "LC"]]}]),
        "the start of an entity is '0', not a whole number",
    ),
    "a type of two words": (
        "a.jsonl",
        lines([{"text": "서울", "label": [[0, 1, "L C"]]}]),
        "'L C', contains white space",
    ),
    "overlapping entities": ("a.jsonl", lines([NESTED]), "overlap; set `overlaps` to outermost or innermost"),
    "no text": ("a.jsonl", DOCCANO + lines([{"text": None, "label": []}]), "a.jsonl:3: a-3: 'text' is null, not text"),
    "no object": ("a.jsonl", DOCCANO + "[]\n", "a.jsonl:3: a-3: it is a list, not an object"),
    "no JSON": ("a.jsonl", DOCCANO + "{\n", "a.jsonl:3: a-3: the line is not valid JSON"),
    "a file that ends early": ("a.json", json.dumps([task(0), task(1)])[:-20], "a.json is not valid JSON"),
    "an id that is there twice": ("a.jsonl", DOCCANO + DOCCANO, "a.jsonl:3: 0: the id is used already at a.jsonl:1"),
    "ragged columns": (
        "a.conll",
        CONLL_U.replace("2\t은\t_\tO", "2\t은\tO"),
        "a.conll:12: a-2: the line has 3 columns, others have 4",
    ),
    "a tag without a token": (
        "a.conll",
        CONLL_U.replace("2\t은\t_", "2\t\t_"),
        "a.conll:12: a-2: the tag 'O' has no token",
    ),
    "a tag in another notation": (
        "a.conll",
        CONLL_U.replace("B-PS", "PS"),
        "the tag 'PS' on token 4 '金' is not O, B-TYPE or I-TYPE",
    ),
    "an unknown scheme": (
        "a.conll",
        CONLL_U.replace("B-PS", "U-PS").replace("B-LC", "E-LC"),
        "the tags begin with E, U, which is none of BIO",
    ),
    "a zero for O": ("a.conll", CONLL_U.replace("\tO", "\t0"), "write the letter O, not a zero"),
    "numbers without names": (
        "a.jsonl",
        lines([{"tokens": ["서", "울"], "ner_tags": [1, 2]}]),
        "a.jsonl:1: a-1: 'ner_tags' has numbers without names",
    ),
    "other numbers of tags": (
        "a.jsonl",
        lines([{"tokens": ["서", "울"], "ner_tags": ["O"]}]),
        "1 tags for 2 characters",
    ),
    "words and tags": ("a.txt", "가 나\tO O\n가 나\tO\n다 라\tO O\n", "a.txt:2: a-line-2: 1 tags for 2 words"),
    "marks that contradict": ("a.txt", "; 부산에\n$<서울:LC>에\n", "the line without marks reads ' 부산에'"),
    "an empty file": ("a.jsonl", "", "a.jsonl is empty"),
    "plain text": ("a.txt", "서울에 갔다.\n", "is not recognised; set `source_format` to one of"),
    "an archive": ("a.txt", b"PK\x03\x04", "is a zip archive"),
    "an unknown split": (
        "a.jsonl",
        lines([{"text": "가", "label": [], "split": "x"}]),
        "a.jsonl:1: the split is 'x'; it must be train, validation or test",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_place(tmp_path, fault):
    name, content, message = FAULTS[fault]
    assert message in refusal(write(tmp_path, name, content))


def test_brat_faults_name_their_line(tmp_path):
    write(tmp_path, "a.txt", BRAT_TEXT)
    write(tmp_path, "a.ann", "T1\tLC 2 4;5 6\t서울 서\nT2\tPS 7 20\t金\nT3 PS\nT4\tPS 99 100\tx\nT5\tLC 2 4\t서을\n")
    message = refusal(tmp_path)
    assert "a.ann:1: T1: the entity has several fragments, 2 4;5 6" in message
    assert "a.ann:2: T2: the entity at 7 20 goes on over the end of line 1" in message
    assert "a.ann:3: the line is not an entity" in message
    assert "a.ann:4: T4: the offsets 99 100 are not within the text" in message
    assert "a.txt:1: a-line-1: the entity at 2:4 (LC) is given as '서을', but the text there is '서울'" in message


def test_a_file_that_does_not_tell_its_part_is_named(tmp_path):
    write(tmp_path, "train.jsonl", DOCCANO)
    write(tmp_path, "other.jsonl", DOCCANO)
    assert "other.jsonl does not tell its part by its name, as train.jsonl does" in refusal(tmp_path)


def test_files_in_several_formats_are_named(tmp_path):
    write(tmp_path, "train.jsonl", DOCCANO)
    write(tmp_path, "test.tsv", KLUE)
    assert "its files have several formats" in refusal(tmp_path)
