from array import array
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from koner.drift.comparison import compare, conclude
from koner.drift.statistics import TextStatistics
from koner.errors import KonerError


def statistics(seed, texts=2000, score=8.0, types=(50, 30, 20), unknown=0.02):
    """Statistics of texts with random scores and the same densities."""
    draw = np.random.default_rng(seed)
    counts = draw.multinomial(3 * texts, np.array(types) / sum(types)).tolist()
    return TextStatistics(
        scores=array("d", draw.beta(score, 1, texts)),
        densities=array("d", draw.poisson(3, texts) * 20.0),
        with_unknown=int(draw.binomial(texts, unknown)),
        types=Counter(dict(zip(("PS", "LC", "OG"), counts, strict=True))),
        characters=40 * texts,
    )


def sizes(reference, texts):
    return [difference.size for difference in compare(reference, texts)]


def test_equal_distributions_do_not_drift():
    differences = compare(statistics(0), statistics(1))
    assert [d.size for d in differences] == ["none"] * 4
    assert conclude(differences).startswith("No drift: ")


def test_each_distribution_drifts_alone():
    reference = statistics(0)
    assert sizes(reference, statistics(1, score=3.0)) == ["large", "none", "none", "none"]
    assert sizes(reference, statistics(1, types=(20, 30, 50))) == ["none", "none", "large", "none"]
    assert sizes(reference, statistics(1, unknown=0.1)) == ["none", "none", "none", "moderate"]
    fewer = statistics(1)
    fewer.densities = array("d", np.random.default_rng(2).poisson(1, 2000) * 20.0)
    assert sizes(reference, fewer) == ["none", "large", "none", "none"]


def test_a_small_difference_of_many_texts_is_significant_but_no_drift():
    score, *_ = compare(statistics(0, 200_000), statistics(1, 200_000, score=7.5))
    assert score.p_value < 1e-6
    assert (score.size, score.psi < 0.1) == ("none", True)


def test_a_large_difference_of_few_texts_may_be_chance():
    score, *_ = compare(statistics(0, 30), statistics(4, 30))
    assert score.psi > 0.1
    assert (score.size, score.p_value > 0.01) == ("none", True)


def test_the_tests_are_those_of_scipy_and_the_index_is_that_of_the_definition():
    reference, texts = statistics(0), statistics(1, types=(40, 35, 25))
    score, _, types, _ = compare(reference, texts)
    assert score.p_value == ks_2samp(reference.scores, texts.scores).pvalue
    counts = np.array([[s.types[label] for label in ("LC", "OG", "PS")] for s in (reference, texts)])
    assert types.p_value == chi2_contingency(counts).pvalue
    shares = counts / counts.sum(axis=1, keepdims=True)
    expected = sum((b - a) * np.log(b / a) for a, b in shares.T)
    assert types.psi == pytest.approx(expected, rel=1e-2)


def test_a_type_without_entities_on_a_side_and_sides_without_entities_are_compared():
    reference, texts = statistics(0), statistics(1)
    texts.types = Counter(PS=6000)
    assert sizes(reference, texts)[2] == "large"
    texts.types = Counter()
    assert sizes(reference, texts)[2] == "none"


def test_the_sentence_names_what_differs_and_in_which_direction():
    sentence = conclude(compare(statistics(0), statistics(1, score=3.0)))
    assert sentence.startswith("The texts differ from the reference in: score of a text (lower, large drift). ")


def test_too_few_texts_are_refused():
    with pytest.raises(KonerError, match="TEXTS has 29 texts; a comparison needs at least 30"):
        compare(statistics(0), statistics(1, 29))
