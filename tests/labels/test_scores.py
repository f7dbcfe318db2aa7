import pytest

from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.labels.scores import precision_recall_f1, span_scores, span_scores_by_type
from koner.labels.sequence_scores import sequence_scores, sequence_scores_by_type

pytestmark = pytest.mark.filterwarnings("error")

NOTHING = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 0}


@pytest.mark.parametrize(
    ("counts", "figures"),
    [
        ((2, 4, 3), (1 / 2, 2 / 3, 4 / 7)),
        ((0, 4, 3), (0, 0, 0)),
        ((0, 0, 3), (0, 0, 0)),
        ((0, 4, 0), (0, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((3, 3, 3), (1, 1, 1)),
    ],
)
def test_ratios_of_counts(counts, figures):
    scores = precision_recall_f1(*counts)
    assert (scores["precision"], scores["recall"], scores["f1"]) == pytest.approx(figures)


def test_span_scores_count_exact_spans_of_the_right_type():
    gold = [[Entity(0, 3, "PS"), Entity(5, 7, "LC")], [Entity(0, 2, "DT")]]
    predicted = [[Entity(0, 3, "PS"), Entity(5, 8, "LC")], [Entity(3, 4, "QT"), Entity(0, 2, "DT")]]
    pairs = list(zip(gold, predicted, strict=True))
    assert span_scores(pairs) == pytest.approx({"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7})
    assert span_scores_by_type(pairs, KLUE) == {
        "DT": {"precision": 1, "recall": 1, "f1": 1, "gold": 1},
        "LC": {"precision": 0, "recall": 0, "f1": 0, "gold": 1},
        "OG": NOTHING,
        "PS": {"precision": 1, "recall": 1, "f1": 1, "gold": 1},
        "QT": NOTHING,
        "TI": NOTHING,
    }


@pytest.mark.parametrize(
    "predicted",
    [
        pytest.param(Entity(1, 3, "OG"), id="other type"),
        pytest.param(Entity(0, 3, "LC"), id="other start"),
        pytest.param(Entity(1, 4, "LC"), id="other end"),
    ],
)
def test_a_span_that_differs_in_anything_is_wrong(predicted):
    assert span_scores([([Entity(1, 3, "LC")], [predicted])])["f1"] == 0


def test_the_same_span_in_another_sentence_is_wrong():
    assert span_scores([([Entity(1, 3, "LC")], []), ([], [Entity(1, 3, "LC")])])["f1"] == 0


def test_sequence_scores_count_entities_and_tags():
    gold = [["B-PS", "I-PS", "O", "B-LC"], ["O", "B-DT"]]
    predicted = [["B-PS", "I-PS", "O", "O"], ["B-QT", "B-DT"]]
    assert sequence_scores(gold, predicted) == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "accuracy": 4 / 6}
    )
    assert sequence_scores_by_type(gold, predicted, KLUE) == {
        "DT": {"precision": 1, "recall": 1, "f1": 1, "gold": 1},
        "LC": {"precision": 0, "recall": 0, "f1": 0, "gold": 1},
        "OG": NOTHING,
        "PS": {"precision": 1, "recall": 1, "f1": 1, "gold": 1},
        "QT": NOTHING,
        "TI": NOTHING,
    }


def test_sequence_scores_are_micro_averages():
    gold = [["B-PS", "O", "B-PS", "O", "B-PS", "O", "B-LC"]]
    predicted = [["B-PS", "O", "B-PS", "O", "B-PS", "B-LC", "O"]]
    assert sequence_scores(gold, predicted) == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "accuracy": 5 / 7}
    )


def test_an_entity_with_a_wrong_prefix_counts_as_in_seqeval_s_default_mode():
    scores = sequence_scores([["B-PS", "I-PS"]], [["I-PS", "I-PS"]])
    assert scores == {"precision": 1, "recall": 1, "f1": 1, "accuracy": 0.5}


@pytest.mark.parametrize("tags", [pytest.param([], id="no sentence"), pytest.param([[]], id="a sentence without tags")])
def test_sequence_scores_without_tags_are_0(tags):
    assert sequence_scores(tags, tags) == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 0}


@pytest.mark.parametrize("tags", [pytest.param([], id="no sentence"), pytest.param([[]], id="a sentence without tags")])
def test_sequence_scores_by_type_without_tags_are_0(tags):
    assert sequence_scores_by_type(tags, tags, KLUE) == dict.fromkeys(KLUE.types, NOTHING)


def test_sequence_scores_without_entities_are_0_but_for_accuracy():
    assert sequence_scores([["O", "O"]], [["O", "O"]]) == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 1}


@pytest.mark.parametrize("pairs", [pytest.param([], id="no sentence"), pytest.param([([], [])], id="no entity")])
def test_span_scores_without_entities_are_0(pairs):
    assert span_scores(pairs) == {"precision": 0, "recall": 0, "f1": 0}
    assert span_scores_by_type(pairs, KLUE) == dict.fromkeys(KLUE.types, NOTHING)
