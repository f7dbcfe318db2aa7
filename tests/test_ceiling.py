import csv

import pytest

from koner.alignment import retag
from koner.ceiling import HEAD, HEAD_ENTITY, TAIL, TAIL_ENTITY, UNCOVERED, Ceiling, Loss, write_losses
from koner.corpus import RawSentence, check
from koner.vocabulary import SPECIAL_TOKENS, UNK, make_tokenizer

PIECES = ("스타", "##뎀의", "북미", "남제주", "서울", "##이다")
ZERO_WIDTH = "\u200b"


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer({piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *PIECES])}, 128)


def add(ceiling, tokenizer, *annotated):
    sentences = [check(RawSentence("file:1", f"s{i}", annotated=a)) for i, a in enumerate(annotated)]
    unk = tokenizer.convert_tokens_to_ids(UNK)
    return [loss for retagged in retag(sentences, tokenizer, 128, 32) for loss in ceiling.add(retagged, unk)]


@pytest.mark.parametrize(
    ("annotated", "losses"),
    [
        pytest.param(
            "<스타뎀:PS>의", [Loss("train", "s0", "PS", "스타뎀", 0, 3, "스타 뎀의", "스타뎀의:PS", TAIL)], id="tail"
        ),
        pytest.param(
            "<북:LC><미:LC>",
            [
                Loss("train", "s0", "LC", "북", 0, 1, "북미", "북미:LC", TAIL_ENTITY),
                Loss("train", "s0", "LC", "미", 1, 2, "북미", "북미:LC", HEAD_ENTITY),
            ],
            id="two entities in one token",
        ),
        pytest.param("남<제주:LC>", [Loss("train", "s0", "LC", "제주", 1, 3, "남제주", "", HEAD)], id="head"),
        pytest.param(
            f"서울 <{ZERO_WIDTH}:PS>",
            [Loss("train", "s0", "PS", ZERO_WIDTH, 3, 4, "", "", UNCOVERED)],
            id="no token at all",
        ),
        pytest.param(
            f"<서울{ZERO_WIDTH}:LC>",
            [Loss("train", "s0", "LC", f"서울{ZERO_WIDTH}", 0, 3, "서울", "서울:LC", UNCOVERED)],
            id="no token for its end",
        ),
        pytest.param("<서울:LC>이다", [], id="nothing lost"),
    ],
)
def test_a_loss_names_its_reason(tokenizer, annotated, losses):
    assert add(Ceiling("train"), tokenizer, annotated) == losses


def test_figures_add_up_over_sentences(tokenizer):
    ceiling = Ceiling("train")
    add(ceiling, tokenizer, "<스타뎀:PS>의", "<북:LC><미:OG>", "<서울:LC>이다", "<서울:LC> 깋")
    assert ceiling.metrics() == {
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


def test_an_empty_part_scores_nothing():
    metrics = Ceiling("train").metrics()
    assert (metrics["precision"], metrics["recall"], metrics["f1"], metrics["lost"]) == (0, 0, 0, {})


LOSSES = [
    Loss("train", "a", "LC", "제주", 1, 3, "남제주", "", HEAD),
    Loss("train", "b", "PS", "스타뎀", 0, 3, "스타 뎀의", "스타뎀의:PS", TAIL),
    Loss("validation", "c", "OG", 'A|B, "C"', 2, 10, "A|B, C", "", TAIL),
]


def test_losses_are_written_as_csv(tmp_path):
    path = tmp_path / "new" / "lost.csv"
    write_losses(iter(LOSSES), path, tmp_path / "new" / "lost.md")
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["part", "id", "label", "surface", "start", "end", "tokens", "read_as", "why"]
    assert rows == [
        ["train", "a", "LC", "제주", "1", "3", "남제주", "", HEAD],
        ["train", "b", "PS", "스타뎀", "0", "3", "스타 뎀의", "스타뎀의:PS", TAIL],
        ["validation", "c", "OG", 'A|B, "C"', "2", "10", "A|B, C", "", TAIL],
    ]


def test_losses_are_written_as_markdown_by_reason_commonest_first(tmp_path):
    path = tmp_path / "lost.md"
    write_losses(LOSSES, tmp_path / "lost.csv", path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Entities lost in alignment",
        f"## {TAIL}: 2",
        f"## {HEAD}: 1",
    ]
    assert "| train | b | PS | 스타뎀 | 스타 뎀의 | 스타뎀의:PS |" in lines
    assert '| validation | c | OG | A\\|B, "C" | A\\|B, C |  |' in lines


def test_no_loss_is_said(tmp_path):
    write_losses([], tmp_path / "lost.csv", tmp_path / "lost.md")
    assert (tmp_path / "lost.md").read_text(encoding="utf-8") == "# Entities lost in alignment\n\nNone.\n"
    assert (tmp_path / "lost.csv").read_text(encoding="utf-8").count("\n") == 1
