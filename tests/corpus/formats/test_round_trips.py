"""What survives a conversion is equal, for every pair of formats that can express it."""

import tempfile
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from koner.corpus.checks import check
from koner.corpus.conversion import WRITABLE, write_parts
from koner.corpus.formats.registry import HUB
from koner.corpus.raw import RawEntity, RawSentence
from koner.corpus.source_report import SourceReport
from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError

# The folder of the hub's layout is read by `datasets`, which takes a second; a test below has it.
FORMATS = [name for name in WRITABLE if name != HUB]
# Formats that cannot hold every text or entity: they refuse with a message.
LIMITED = {"lines", "klue", "conll", "brat"}
# Formats without ids.
NAMELESS = {"lines", "inline", "brat", "spacy"}

WORDS = st.text("가나서울金🎉é<>&;:#$-_\"'a1B", min_size=1, max_size=5)
GAPS = st.sampled_from([" ", " ", " ", "  ", "\u3000", "\u00a0"])
LABELS = st.sampled_from(["PS", "LC", "OG"])


@st.composite
def sentences(draw):
    """A text of words, of which some, or the beginnings of some, are entities."""
    text, entities = "", []
    for word in draw(st.lists(WORDS, min_size=1, max_size=6)):
        text += draw(GAPS) if text else ""
        end = len(text) + draw(st.integers(0, len(word)))
        if end > len(text):
            entities.append(RawEntity(len(text), end, draw(LABELS)))
        text += word
    return text, entities


def checked(drawn):
    return [check(RawSentence("", f"s-{i}", text=text, entities=entities)) for i, (text, entities) in enumerate(drawn)]


def write(path, name, sentences):
    with write_parts(path, name, False) as write_part:
        write_part("train", sentences)


def read(path, name):
    report = SourceReport()
    # brat's folder holds two files of one document.
    parts = read_source(str(path), "ner", None, source_format=name, report=report)
    return read_checked(parts, report=report)["train"]


def pairs(sentences):
    return [(sentence.text, sentence.entities) for sentence in sentences]


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(st.lists(sentences(), min_size=1, max_size=3))
@pytest.mark.parametrize(("first", "second"), list(product(FORMATS, FORMATS)))
def test_two_conversions_keep_text_and_entities(first, second, drawn):
    original = checked(drawn)
    with tempfile.TemporaryDirectory() as folder:
        try:
            write(Path(folder, "one.txt"), first, original)
            once = read(Path(folder, "one.txt"), first)
            write(Path(folder, "two.txt"), second, once)
        except KonerError:
            assert {first, second} & LIMITED
            assume(False)
        twice = read(Path(folder, "two.txt"), second)
    assert pairs(once) == pairs(original)
    assert pairs(twice) == pairs(original)
    if not {first, second} & NAMELESS:
        assert [sentence.id for sentence in twice] == [sentence.id for sentence in original]


PLAIN = [
    ("서울 시청에 김씨 가", [RawEntity(0, 6, "LC"), RawEntity(7, 9, "PS")]),
    ("🎉 대한민국 만세", [RawEntity(2, 6, "OG")]),
]


@pytest.mark.parametrize("name", WRITABLE)
def test_a_written_file_is_recognised_by_its_content(tmp_path, name):
    original = checked([PLAIN[1]] if name == "lines" else PLAIN)
    folder = tmp_path / "corpus"
    with write_parts(folder, name, True) as write_part:
        write_part("train", original)
        write_part("test", original)
    report = SourceReport()
    parts = read_checked(read_source(str(folder), "ner", None, report=report))
    assert report.format == name
    assert {part: pairs(sentences) for part, sentences in parts.items()} == {
        "train": pairs(original),
        "test": pairs(original),
    }


@pytest.mark.parametrize(
    ("name", "text", "entities", "message"),
    [
        ("lines", "서울에 갔다", [RawEntity(0, 2, "LC")], "s-0: the entity '서울' begins or ends inside a word"),
        ("lines", "서울  시청", [], "s-0: the text has other white space than single spaces"),
        ("klue", "서울\t시청", [], "s-0: the text has a line end or a tab"),
        ("conll", "서울\n시청", [], "s-0: the text has a line end"),
        ("brat", "서울\n시청", [], "s-0: the text has a line end"),
        ("koner", "서울", [], "the format 'koner' is only read"),
        ("none", "서울", [], "there is no format 'none'"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_left(tmp_path, name, text, entities, message):
    with pytest.raises(KonerError) as error:
        write(tmp_path / "out.txt", name, checked([(text, entities)]))
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []
