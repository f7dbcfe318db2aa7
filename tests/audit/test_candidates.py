import csv

import pytest

from koner.audit.candidates import Candidate, apply_candidates, by_sentence, join_candidates, write_candidates
from koner.labels.bio import Entity

TEXT = "홍길동은 서울에 갔다."
PS, LC, OG = Entity(0, 3, "PS"), Entity(5, 7, "LC"), Entity(5, 7, "OG")


def candidate(annotated, suggested, check="model", score=0.5, id_="1", note=""):
    return Candidate(id_, TEXT, check, annotated, suggested, score, note)


@pytest.mark.parametrize(
    ("annotated", "suggested", "kind"),
    [
        (None, PS, "missed"),
        (PS, None, "spurious"),
        (PS, Entity(0, 4, "PS"), "boundary"),
        (LC, OG, "type"),
        (LC, Entity(5, 8, "OG"), "both"),
    ],
)
def test_the_kind_says_what_is_wrong_with_the_annotation(annotated, suggested, kind):
    assert candidate(annotated, suggested).kind == kind


@pytest.mark.parametrize(
    ("candidates", "entities"),
    [
        ([candidate(LC, OG)], (PS, OG)),
        ([candidate(PS, None)], (LC,)),
        # The second one contradicts the first.
        ([candidate(LC, OG), candidate(LC, None)], (PS, OG)),
        ([candidate(LC, OG), candidate(OG, None)], (PS, OG)),
        ([candidate(None, Entity(6, 8, "DT"))], (PS, LC)),
        ([candidate(None, Entity(8, 10, "DT"))], (PS, LC, Entity(8, 10, "DT"))),
        ([candidate(None, None, "white space")], (PS, LC)),
    ],
)
def test_suggestions_are_applied_unless_they_contradict_each_other(candidates, entities):
    assert apply_candidates((PS, LC), candidates) == entities


def test_a_change_is_there_once_with_the_note_of_the_check():
    of_model = [candidate(LC, OG, score=0.9), candidate(PS, None, score=0.8)]
    bracket = candidate(PS, Entity(0, 2, "PS"), "bracket")
    of_checks = [candidate(LC, OG, "surface", note="OG in 3 of 4 places"), bracket, candidate(None, PS, "unmarked")]
    joined = join_candidates(of_model, of_checks)
    assert [(c.check, c.note) for c in joined] == [
        ("bracket", ""),
        ("model", "OG in 3 of 4 places"),
        ("model", ""),
        ("unmarked", ""),
    ]


def test_the_table_has_a_row_for_each_candidate(tmp_path):
    write_candidates(tmp_path / "table.csv", [candidate(LC, OG), candidate(None, PS, id_="=1+1", note="-")])
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    wanted = {"rank": "1", "id": "1", "check": "model", "kind": "type", "score": "0.500000", "text": TEXT}
    wanted |= {"annotated": "서울", "annotated_type": "LC", "annotated_start": "5", "annotated_end": "7"}
    assert wanted.items() <= first.items()
    assert (second["id"], second["note"], second["annotated"], second["suggested"]) == ("'=1+1", "'-", "", "홍길동")


def test_sentences_are_in_the_order_of_their_first_candidates():
    candidates = [candidate(PS, None, id_=id_) for id_ in ("2", "1", "2")]
    assert [(id_, len(found)) for id_, found in by_sentence(candidates).items()] == [("2", 2), ("1", 1)]
