import csv

import pytest
from markdown_it import MarkdownIt

from koner.corpus.checks import RawSentence, check
from koner.corpus.sentences import sentence_batches
from koner.encoder.vocabulary import SPECIAL_TOKENS, UNK, make_tokenizer
from koner.labels.klue import KLUE
from koner.tokens.alignment import align_batch
from koner.tokens.oracle import (
    HEAD,
    HEAD_ENTITY,
    TAIL,
    TAIL_ENTITY,
    UNCOVERED,
    UNKNOWN,
    LostEntity,
    OracleScore,
    entity_types,
    write_lost_entities,
)
from koner.tokens.windows import with_truncation

PIECES = ("스타", "##뎀의", "북미", "남제주", "서울", "##이다")
ZERO_WIDTH = "\u200b"


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer({piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *PIECES])}, 128)


def add(score, tokenizer, *annotated):
    """Add annotated sentences to a score, and return the lost entities."""
    sentences = [check(RawSentence("file:1", f"s{i}", annotated=a)) for i, a in enumerate(annotated)]
    unk_id = tokenizer.convert_tokens_to_ids(UNK)
    truncating = with_truncation(tokenizer.backend_tokenizer, 128, 32)
    return [
        lost
        for batch in sentence_batches(sentences)
        for lost in score.add(align_batch(batch, truncating, KLUE), unk_id)
    ]


@pytest.mark.parametrize(
    ("annotated", "lost"),
    [
        pytest.param(
            "<스타뎀:PS>의",
            [LostEntity("train", "s0", "PS", "스타뎀", 0, 3, "스타 뎀의", "스타뎀의:PS", TAIL)],
            id="tail",
        ),
        pytest.param(
            "<북:LC><미:LC>",
            [
                LostEntity("train", "s0", "LC", "북", 0, 1, "북미", "북미:LC", TAIL_ENTITY),
                LostEntity("train", "s0", "LC", "미", 1, 2, "북미", "북미:LC", HEAD_ENTITY),
            ],
            id="two entities in one token",
        ),
        pytest.param("남<제주:LC>", [LostEntity("train", "s0", "LC", "제주", 1, 3, "남제주", "", HEAD)], id="head"),
        pytest.param(
            f"서울 <{ZERO_WIDTH}:PS>",
            [LostEntity("train", "s0", "PS", ZERO_WIDTH, 3, 4, "", "", UNCOVERED)],
            id="no token at all",
        ),
        pytest.param(
            f"<서울{ZERO_WIDTH}:LC>",
            [LostEntity("train", "s0", "LC", f"서울{ZERO_WIDTH}", 0, 3, "서울", "서울:LC", UNCOVERED)],
            id="no token for its end",
        ),
        pytest.param(
            "<깋동:PS>은 서울",
            [LostEntity("train", "s0", "PS", "깋동", 0, 2, "깋동은", "깋동은:PS", UNKNOWN)],
            id="unknown word",
        ),
        pytest.param("<서울:LC>이다", [], id="nothing lost"),
    ],
)
def test_a_lost_entity_has_its_reason(tokenizer, annotated, lost):
    assert add(OracleScore("train"), tokenizer, annotated) == lost


def test_counts_are_summed_over_sentences(tokenizer):
    score = OracleScore("train")
    add(score, tokenizer, "<스타뎀:PS>의", "<북:LC><미:OG>", "<서울:LC>이다", "<서울:LC> 깋")
    assert score.metrics() == {
        "sentences": 4,
        "windows": 4,
        "tokens": 7,
        "unk_tokens": 1,
        "tokens_of_several_types": 1,
        "entities": 5,
        "read_back": 4,
        "exact": 2,
        "precision": 0.5,
        "recall": 0.4,
        "f1": pytest.approx(4 / 9),
        "lost": {TAIL: 1, TAIL_ENTITY: 1, HEAD_ENTITY: 1},
    }


def test_entity_types_of_a_span():
    assert entity_types(["B-PS", "I-PS", "O", "B-LC"], (1, 4)) == {"PS", "LC"}
    assert entity_types(["B-PS", "O", "O"], (1, 3)) == set()


def test_the_scores_of_an_empty_part_are_zero():
    metrics = OracleScore("train").metrics()
    assert (metrics["precision"], metrics["recall"], metrics["f1"], metrics["lost"]) == (0, 0, 0, {})


LOST = [
    LostEntity("train", "a", "LC", "제주", 1, 3, "남제주", "", HEAD),
    LostEntity("train", "b", "PS", "스타뎀", 0, 3, "스타 뎀의", "스타뎀의:PS", TAIL),
    LostEntity("validation", "c", "OG", 'A|B, "C"', 2, 10, "A|B, C", "", TAIL),
]


def test_lost_entities_are_written_as_csv(tmp_path):
    path = tmp_path / "new" / "lost.csv"
    write_lost_entities(iter(LOST), path, tmp_path / "new" / "lost.md")
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["part", "id", "label", "surface", "start", "end", "tokens", "read_as", "why"]
    assert rows == [
        ["train", "a", "LC", "제주", "1", "3", "남제주", "", HEAD],
        ["train", "b", "PS", "스타뎀", "0", "3", "스타 뎀의", "스타뎀의:PS", TAIL],
        ["validation", "c", "OG", 'A|B, "C"', "2", "10", "A|B, C", "", TAIL],
    ]


def test_lost_entities_are_written_as_markdown_by_reason_commonest_first(tmp_path):
    path = tmp_path / "lost.md"
    write_lost_entities(LOST, tmp_path / "lost.csv", path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Entities lost in alignment",
        f"## {TAIL}: 2",
        f"## {HEAD}: 1",
    ]
    assert "| train | b | PS | 스타뎀 | 스타 뎀의 | 스타뎀의:PS |" in lines
    assert '| validation | c | OG | A\\|B, "C" | A\\|B, C |  |' in lines


@pytest.mark.parametrize("text", ["=cmd|'/C calc'!A0", "+1", "-5도", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_the_table_is_a_formula(tmp_path, text):
    path = tmp_path / "lost.csv"
    write_lost_entities([LostEntity("train", text, "OG", text, 0, 2, text, text, TAIL)], path, tmp_path / "lost.md")
    with path.open(encoding="utf-8", newline="") as file:
        _, row = csv.reader(file)
    assert [row[i] for i in (1, 3, 6, 7)] == [f"'{text}"] * 4


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "`a` | b",
        "[a](b)",
        "![a](b)",
        "*a* _b_ **c**",
        "&lt;",
        "a\\|b",
        "~~a~~",
        "$a$",
        "a\r\n# b",
    ],
)
def test_no_cell_of_the_page_is_markup(tmp_path, text):
    path = tmp_path / "lost.md"
    write_lost_entities([LostEntity("train", text, "OG", text, 0, 2, text, text, TAIL)], tmp_path / "lost.csv", path)
    parsed = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(path.read_text(encoding="utf-8"))
    cells = [token.children for token in parsed if token.type == "inline"][-6:]
    assert {child.type for cell in cells for child in cell} <= {"text", "text_special"}
    shown = text.replace("\r\n", " ")
    assert ["".join(child.content for child in cell) for cell in cells] == ["train", shown, "OG", shown, shown, shown]


@pytest.mark.parametrize("count", [1, 30])
def test_lost_entities_of_a_sentence_have_their_own_tokens(tokenizer, count):
    lost = add(OracleScore("train"), tokenizer, "<스타뎀:PS>의 서울 " * count)
    assert [(e.start, e.tokens, e.read_as, e.why) for e in lost] == [
        (start, "스타 뎀의", "스타뎀의:PS", TAIL) for start in range(0, 8 * count, 8)
    ]


def test_a_page_without_lost_entities_says_so(tmp_path):
    write_lost_entities([], tmp_path / "lost.csv", tmp_path / "lost.md")
    assert (tmp_path / "lost.md").read_text(encoding="utf-8") == "# Entities lost in alignment\n\nNone.\n"
    assert (tmp_path / "lost.csv").read_text(encoding="utf-8").count("\n") == 1
