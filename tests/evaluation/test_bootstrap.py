import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koner.errors import KonerError
from koner.evaluation import bootstrap
from koner.evaluation.bootstrap import (
    Interval,
    PairedDifference,
    interval,
    macro_f1,
    micro_f1,
    p_value,
    paired,
    paired_all,
    resample_sums,
)
from koner.evaluation.klue import entity_f1
from koner.evaluation.span import score_spans, span_counts
from koner.evaluation.wordpiece import wordpiece_counts
from koner.inference.predictions import Prediction
from koner.inference.tagger import ScoredEntity
from koner.labels.bio import Entity, bio_to_entities
from koner.labels.klue import KLUE
from koner.labels.scores import precision_recall_f1
from koner.labels.sequence_scores import sequence_scores, sequence_scores_by_type

pytestmark = pytest.mark.filterwarnings("error")

# One annotated entity in each of two sentences: found, and missed.
FOUND, MISSED = [[1, 1, 1]], [[0, 0, 1]]
BOTH, FIRST = np.array([FOUND, FOUND]), np.array([FOUND, MISSED])


def prediction(gold_tags, predicted_tags, entities):
    """A sentence of one character to a token, its annotation the gold tags."""
    length = len(gold_tags)
    return Prediction(
        "s",
        "가" * length,
        None,
        tuple(bio_to_entities(gold_tags)),
        tuple(ScoredEntity(e.start, e.end, e.label, 1.0) for e in entities),
        tuple((i, i + 1) for i in range(length)),
        tuple(gold_tags),
        tuple(predicted_tags),
        (1.0,) * length,
    )


@st.composite
def predictions(draw):
    """Sentences whose tokens and spans were tagged each by a model of its own."""
    predictions = []
    for length in draw(st.lists(st.integers(1, 8), min_size=1, max_size=6)):
        gold, tags, spans = (
            draw(st.lists(st.sampled_from(KLUE.tags), min_size=length, max_size=length)) for _ in range(3)
        )
        predictions.append(prediction(gold, draw(st.sampled_from([gold, tags])), bio_to_entities(spans)))
    return predictions


@pytest.mark.parametrize(
    ("counts", "micro", "macro", "macro_of_present"),
    [
        # Of the first group F1 is 2 * 1 / (1 + 3), of the second 2 * 3 / (3 + 3), of both together 2 * 4 / (4 + 6).
        ([[1, 1, 3], [3, 3, 3]], 4 / 5, 3 / 4, 3 / 4),
        ([[1, 1, 3], [0, 0, 0]], 1 / 2, 1 / 4, 1 / 2),
        ([[2, 2, 2], [0, 1, 0]], 4 / 5, 1 / 2, 1 / 2),
        ([[2, 2, 2], [0, 0, 1]], 4 / 5, 1 / 2, 1 / 2),
        ([[0, 0, 0], [0, 0, 0]], 0, 0, 0),
    ],
)
def test_f1_of_counts(counts, micro, macro, macro_of_present):
    sums = np.array(counts)
    assert micro_f1(sums) == pytest.approx(micro)
    assert macro_f1(sums) == pytest.approx(macro)
    assert macro_f1(sums, present_only=True) == pytest.approx(macro_of_present)
    assert entity_f1(sums) == pytest.approx(macro_of_present)


def test_f1_keeps_the_leading_axes():
    sums = np.array([[[1, 1, 3], [3, 3, 3]], [[0, 0, 0], [0, 0, 0]]])
    assert micro_f1(sums) == pytest.approx([4 / 5, 0])
    assert macro_f1(sums) == pytest.approx([3 / 4, 0])
    assert macro_f1(sums, present_only=True) == pytest.approx([3 / 4, 0])


def test_a_resample_draws_as_many_sentences_as_there_are():
    # Of the unit matrix the sums are the weights: how often each of five sentences was drawn.
    weights = resample_sums(np.eye(5, dtype=np.int64)[:, :, None].repeat(3, axis=2), 2000, 0)[..., 0]
    assert (weights.sum(axis=1) == 5).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(5), abs=0.1)
    # A sentence is drawn not at all in (4/5)^5 of the resamples.
    assert (weights == 0).mean() == pytest.approx(0.8**5, abs=0.02)


def test_sums_are_exact_and_do_not_depend_on_the_block(monkeypatch):
    # Sums beyond 2**24, where float32 skips odd numbers.
    counts = np.random.default_rng(1).integers(2**25, size=(7, 2, 3))
    weights = resample_sums(np.eye(7, dtype=np.int64)[:, :, None], 50, 3)[..., 0]
    expected = [sum(int(w) * counts[s] for s, w in enumerate(row)) for row in weights]
    assert (resample_sums(counts, 50, 3) == expected).all()
    monkeypatch.setattr(bootstrap, "_CELLS", 21)
    assert (resample_sums(counts, 50, 3) == expected).all()


def test_a_seed_repeats_and_another_differs():
    assert interval(FIRST, micro_f1, 50, seed=1) == interval(FIRST, micro_f1, 50, seed=1)
    assert (resample_sums(FIRST, 50, 1) != resample_sums(FIRST, 50, 2)).any()


def test_interval_of_two_sentences():
    # Drawn are both (F1 2/3), the first twice (1) or the second twice (0), the last two a quarter of the time each.
    assert interval(FIRST, micro_f1) == Interval(pytest.approx(2 / 3), 0, 1)
    assert interval(FIRST, micro_f1, level=0.2) == Interval(*[pytest.approx(2 / 3)] * 3)


def test_interval_agrees_with_the_normal_one_where_that_holds():
    # 400 sentences of one predicted entity each, 300 right: F1 is the share, its deviation (0.75 * 0.25 / 400) ** 0.5.
    estimate = interval(np.array([FOUND] * 300 + [[[0, 1, 1]]] * 100), micro_f1, 4000)
    deviation = (0.75 * 0.25 / 400) ** 0.5
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx(
        (0.75 - 1.96 * deviation, 0.75, 0.75 + 1.96 * deviation), abs=0.005
    )


def test_paired_difference_of_two_sentences():
    # B - A is -1/3 with both drawn, 0 with the first twice, -1 with the second twice. The latter two, half of the
    # resamples, lie at least as far from -1/3 as that lies from 0.
    comparison = paired(BOTH, FIRST, micro_f1)
    both_drawn = (resample_sums(FIRST, 1000, 0)[:, 0, 0] == 1).sum()
    assert (comparison.a, comparison.b, comparison.difference) == pytest.approx((1, 2 / 3, -1 / 3))
    assert (comparison.low, comparison.high) == (-1, 0)
    assert comparison.p_value == pytest.approx((1 + 1000 - both_drawn) / 1001)
    assert comparison.p_value == pytest.approx(1 / 2, abs=0.05)


def test_both_models_are_scored_on_the_same_resamples():
    # A is worse by exactly one predicted entity in every sentence, whichever are drawn.
    a, b = np.array([[[0, 1, 1]], [[1, 2, 2]]]), np.array([[[1, 1, 1]], [[2, 2, 2]]])
    comparison = paired(a, b, lambda sums: sums[..., 0, 0] / 2)
    assert (comparison.difference, comparison.low, comparison.high) == (1, 1, 1)
    assert comparison.p_value == 1 / 1001


@pytest.mark.parametrize(
    ("differences", "observed", "p"),
    [
        # Away from 0.1 by 0.1, 0, 0.1, 0.2 and 0.2: four at least as far as 0 is.
        ([0.0, 0.1, 0.2, 0.3, -0.1], 0.1, 5 / 6),
        ([0.0, -0.1, -0.2, -0.3, 0.1], -0.1, 5 / 6),
        ([0.3, 0.3, 0.3], 0.3, 1 / 4),
        ([0.3, 0.1, 0.5], 0.3, 1 / 4),
        ([0.0, 0.0, 0.0], 0.0, 1),
        ([0.5, -0.5], 0.0, 1),
        # 0.6 lies as far from 0.3 as 0 does, though in floating point it falls short.
        ([0.6], 0.1 + 0.2, 1),
    ],
)
def test_p_value(differences, observed, p):
    assert p_value(np.array(differences), observed) == pytest.approx(p)


@pytest.mark.parametrize(
    ("counts", "f1"),
    [
        pytest.param(FIRST, 2 / 3, id="two sentences"),
        pytest.param(FIRST[:1], 1, id="one"),
        pytest.param(FIRST[:0], 0, id="none"),
    ],
)
def test_identical_predictions_do_not_differ(counts, f1):
    assert paired(counts, counts, micro_f1, 100) == PairedDifference(*[pytest.approx(f1)] * 2, 0, 0, 0, 1)


def test_one_sentence_shows_no_difference():
    assert paired(BOTH[:1], FIRST[1:], micro_f1, 100) == PairedDifference(1, 0, -1, -1, -1, 1)
    assert interval(BOTH[:1], micro_f1, 100) == Interval(1, 1, 1)


def test_no_sentence_gives_0():
    assert interval(BOTH[:0], micro_f1, 100) == Interval(0, 0, 0)


def test_swapped_models_mirror_the_difference():
    generator = np.random.default_rng(5)
    gold = generator.integers(1, 4, size=(30, 2))
    a, b = (np.stack([generator.integers(gold + 1), gold, gold], axis=-1) for _ in range(2))
    there, back = paired(a, b, micro_f1, 500), paired(b, a, micro_f1, 500)
    assert (back.a, back.b, back.p_value) == (there.b, there.a, there.p_value)
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert there.low < there.difference < there.high


def test_figures_together_are_the_figures_alone():
    a, b = np.random.default_rng(2).integers(4, size=(2, 10, 6, 3))
    together = paired_all(a, b, {"micro": micro_f1, "macro": macro_f1}, 50, seed=4)
    assert together == {"micro": paired(a, b, micro_f1, 50, seed=4), "macro": paired(a, b, macro_f1, 50, seed=4)}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: paired(BOTH, BOTH[:1], micro_f1), "counts of 2 and of 1 sentences can't be paired"),
        (lambda: interval(BOTH, micro_f1, 0), "resamples: 0 is not allowed; it must be at least 1"),
        (lambda: interval(BOTH, micro_f1, seed=-1), "seed: -1 is not allowed; it must be at least 0"),
        (
            lambda: interval(BOTH, micro_f1, level=95),
            "level: 95 is not allowed; it must be between 0 and 1",
        ),
    ],
)
def test_what_makes_no_bootstrap_is_refused(call, said):
    with pytest.raises(KonerError) as error:
        call()
    assert str(error.value) == said


def test_counts_of_a_sentence():
    sentence = prediction(
        ["B-PS", "I-PS", "O", "B-LC"], ["B-PS", "I-PS", "B-LC", "I-LC"], [Entity(0, 2, "PS"), Entity(0, 1, "DT")]
    )
    spans, wordpieces = span_counts([sentence], KLUE), wordpiece_counts([sentence], KLUE)
    assert spans.shape == wordpieces.shape == (1, 6, 3)
    assert dict(zip(KLUE.types, spans[0].tolist(), strict=True)) == {
        "DT": [0, 1, 0], "LC": [0, 0, 1], "OG": [0, 0, 0], "PS": [1, 1, 1], "QT": [0, 0, 0], "TI": [0, 0, 0],
    }  # fmt: skip
    assert dict(zip(KLUE.types, wordpieces[0].tolist(), strict=True)) == {
        "DT": [0, 0, 0], "LC": [0, 1, 1], "OG": [0, 0, 0], "PS": [1, 1, 1], "QT": [0, 0, 0], "TI": [0, 0, 0],
    }  # fmt: skip


def test_counts_of_no_sentence_keep_their_shape():
    assert span_counts([], KLUE).shape == wordpiece_counts([], KLUE).shape == (0, 6, 3)


@given(predictions())
def test_summed_counts_give_the_figures_of_scoring(sentences):
    spans, wordpieces = span_counts(sentences, KLUE).sum(axis=0), wordpiece_counts(sentences, KLUE).sum(axis=0)
    gold, tags = [list(p.gold_tags) for p in sentences], [list(p.predicted_tags) for p in sentences]
    by_span = score_spans(sentences, KLUE)
    assert micro_f1(spans) == pytest.approx(by_span["f1"])
    assert micro_f1(wordpieces) == pytest.approx(sequence_scores(gold, tags)["f1"])
    for sums, by_type in ((spans, by_span["by_type"]), (wordpieces, sequence_scores_by_type(gold, tags, KLUE))):
        for type_, (correct, predicted, annotated) in zip(KLUE.types, sums.tolist(), strict=True):
            assert {**precision_recall_f1(correct, predicted, annotated), "gold": annotated} == pytest.approx(
                by_type[type_]
            )
