import warnings

import pytest

from koner.labels import TYPES, Entity
from koner.scoring import ratios, sequence_scores, sequence_scores_by_type, span_scores

NOTHING = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 0}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


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
def test_ratios(counts, figures):
    found = ratios(*counts)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(figures)


def test_span_scores_count_exact_spans_of_the_right_type():
    gold = [[Entity(0, 3, "PS"), Entity(5, 7, "LC")], [Entity(0, 2, "DT")]]
    predicted = [[Entity(0, 3, "PS"), Entity(5, 8, "LC")], [Entity(3, 4, "QT"), Entity(0, 2, "DT")]]
    found = span_scores(zip(gold, predicted, strict=True))
    by_type = found.pop("by_type")
    assert found == pytest.approx({"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7})
    assert by_type == {
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
    assert sequence_scores_by_type(gold, predicted) == {
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


def test_an_entity_with_a_wrong_prefix_counts_as_seqeval_counts_it_by_default():
    found = sequence_scores([["B-PS", "I-PS"]], [["I-PS", "I-PS"]])
    assert found == {"precision": 1, "recall": 1, "f1": 1, "accuracy": 0.5}


@pytest.mark.parametrize("tags", [pytest.param([], id="no sentence"), pytest.param([[]], id="a sentence without tags")])
def test_sequence_scores_of_nothing_are_0(tags):
    assert sequence_scores(tags, tags) == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 0}


@pytest.mark.parametrize("tags", [pytest.param([], id="no sentence"), pytest.param([[]], id="a sentence without tags")])
def test_sequence_scores_by_type_of_nothing_are_0(tags):
    assert sequence_scores_by_type(tags, tags) == dict.fromkeys(TYPES, NOTHING)


def test_sequence_scores_without_entities_are_0_but_for_accuracy():
    assert sequence_scores([["O", "O"]], [["O", "O"]]) == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 1}


@pytest.mark.parametrize("pairs", [pytest.param([], id="no sentence"), pytest.param([([], [])], id="no entity")])
def test_span_scores_of_nothing_are_0(pairs):
    assert span_scores(pairs) == {
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "by_type": dict.fromkeys(TYPES, NOTHING),
    }
