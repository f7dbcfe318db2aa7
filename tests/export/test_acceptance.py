import pytest

from koner.export.acceptance import compare_predictions, describe_change, is_accepted
from koner.inference.predictions import Prediction
from koner.inference.tagger import ScoredEntity
from koner.labels.bio import Entity
from koner.labels.klue import KLUE

GOLD = (Entity(0, 2, "LC"), Entity(3, 5, "PS"))


def prediction(*entities, gold=GOLD):
    scored = tuple(ScoredEntity(*entity, 0.5) for entity in entities)
    return Prediction("1", "가나다라마바", None, gold, scored, (), (), (), ())


def change(sentences, broken, fixed):
    """Compare two models on sentences of one entity each; one of them is 100 points divided by the sentences."""
    gold = GOLD[:1]
    right, wrong = prediction((0, 2, "LC"), gold=gold), prediction((0, 2, "PS"), gold=gold)
    rest = [right] * (sentences - broken - fixed)
    return compare_predictions(
        [right] * broken + [wrong] * fixed + rest, [wrong] * broken + [right] * fixed + rest, KLUE
    )


def test_the_comparison_counts_entities_that_only_one_model_predicts():
    both, one = prediction((0, 2, "LC"), (3, 5, "PS")), prediction((0, 2, "LC"), (3, 5, "OG"))
    compared = compare_predictions([both, both], [both, one], KLUE)
    # Half of the resamples have the second sentence never or twice.
    assert compared.pop("p_value") == pytest.approx(0.5, abs=0.05)
    assert compared == {
        "span_f1": {"trained": 1.0, "exported": 0.75},
        "points": -25.0,
        "interval": {"low": -50.0, "high": 0.0},
        "sentences": 2,
        "entities_differ": 2,
        "sentences_differ": 1,
    }


@pytest.mark.parametrize(
    ("sentences", "broken", "fixed", "points", "is_distinguished", "accepted"),
    [
        pytest.param(1000, 0, 0, 0, False, True, id="the same predictions"),
        pytest.param(1000, 1, 0, -0.1, False, True, id="a small loss"),
        pytest.param(10_000, 10, 0, -0.1, True, True, id="a small loss that is no noise"),
        pytest.param(1000, 12, 10, -0.2, False, True, id="a medium loss that may be noise"),
        pytest.param(1000, 23, 20, -0.3, False, True, id="the largest loss that may be noise"),
        pytest.param(10_000, 11, 0, -0.11, True, False, id="a medium loss that is no noise"),
        pytest.param(1000, 24, 20, -0.4, False, False, id="a large loss that may be noise"),
        pytest.param(1000, 20, 0, -2, True, False, id="a large loss that is no noise"),
        pytest.param(1000, 20, 24, 0.4, False, True, id="a gain that may be noise"),
        pytest.param(1000, 0, 50, 5, True, True, id="a gain that is no noise"),
        pytest.param(0, 0, 0, 0, False, True, id="no sentences"),
    ],
)
def test_only_a_loss_that_is_large_or_no_noise_is_refused(sentences, broken, fixed, points, is_distinguished, accepted):
    compared = change(sentences, broken, fixed)
    assert compared["points"] == pytest.approx(points)
    assert (compared["p_value"] < 0.05) == is_distinguished
    assert is_accepted(compared) == accepted
    assert compared["sentences"] == sentences
    assert compared["interval"]["low"] <= compared["points"] <= compared["interval"]["high"]


def test_a_change_is_described_with_its_uncertainty():
    compared = {"points": -0.2, "interval": {"low": -0.6, "high": 0.25}, "p_value": 0.41, "sentences": 480}
    assert describe_change("test", compared) == "test -0.20 (95% interval -0.60 to +0.25, p 0.410, 480 sentences)"
