import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator

from koner.corpus.inline import parse_inline
from koner.evaluation.error_kinds import KINDS, SCHEMES, SpanError, breakdown, find_errors
from koner.inference.predictions import Prediction
from koner.inference.tagger import ScoredEntity
from koner.labels.bio import Entity, bio_to_entities
from koner.labels.klue import KLUE
from koner.labels.scores import span_scores

pytestmark = pytest.mark.filterwarnings("error")

NONE = dict.fromkeys(KINDS, 0)


def prediction_of(text, gold, predicted):
    scored = tuple(ScoredEntity(*e, score) for *e, score in predicted)
    return Prediction("id", text, None, tuple(Entity(*e) for e in gold), scored, (), (), (), ())


def prediction(gold, predicted):
    text, entities = parse_inline(gold)
    assert parse_inline(predicted)[0] == text
    return prediction_of(
        text,
        [(e.start, e.end, e.label) for e in entities],
        [(e.start, e.end, e.label, 0.5) for e in parse_inline(predicted)[1]],
    )


def kinds_of(gold, predicted):
    """The kinds of the errors of a text of 200 characters, each with its gold and predicted start."""
    errors = find_errors(prediction_of("가" * 200, gold, [(*e, 0.5) for e in predicted]))
    return [(e.kind, e.gold and e.gold.start, e.predicted and e.predicted.start) for e in errors]


@st.composite
def predictions(draw):
    tag = st.sampled_from(["B-PS", "I-PS", "B-LC", "I-LC", "O"])
    pairs = draw(st.lists(st.tuples(tag, tag), max_size=30))
    gold, predicted = (bio_to_entities([pair[side] for pair in pairs]) for side in (0, 1))
    text = "가" * len(pairs)
    return prediction_of(
        text, [(e.start, e.end, e.label) for e in gold], [(e.start, e.end, e.label, 0.5) for e in predicted]
    )


def as_library(entities):
    return [{"start": e.start, "end": e.end - 1, "label": e.label} for e in entities]


def library_counts(parts):
    """nervaluate's counts by scheme, given whole sentences."""
    true, pred = [as_library(p.gold) for p in parts], [as_library(p.predicted) for p in parts]
    overall = Evaluator(true, pred, tags=list(KLUE.types), loader="dict").evaluate()["overall"]
    return {
        s: [getattr(overall[s], f) for f in ("correct", "incorrect", "partial", "missed", "spurious")] for s in SCHEMES
    }


def our_counts(scores):
    return {s: list(scores["schemes"][s].values())[:5] for s in SCHEMES}


@pytest.mark.parametrize(
    ("gold", "predicted", "error"),
    [
        pytest.param(
            "<서울:LC>시에",
            "<서울시:LC>에",
            SpanError("boundary", Entity(0, 2, "LC"), Entity(0, 3, "LC"), 0.5),
            id="boundary",
        ),
        pytest.param(
            "<서울:LC>시에", "<서울:OG>시에", SpanError("type", Entity(0, 2, "LC"), Entity(0, 2, "OG"), 0.5), id="type"
        ),
        pytest.param(
            "<서울:LC>시에", "<서울시:OG>에", SpanError("both", Entity(0, 2, "LC"), Entity(0, 3, "OG"), 0.5), id="both"
        ),
        pytest.param("<서울:LC>시에", "서울시에", SpanError("missed", Entity(0, 2, "LC"), None, None), id="missed"),
        pytest.param("서울시에", "<서울:LC>시에", SpanError("spurious", None, Entity(0, 2, "LC"), 0.5), id="spurious"),
    ],
)
def test_the_kinds_of_errors(gold, predicted, error):
    p = prediction(gold, predicted)
    assert find_errors(p) == [error]
    assert breakdown([p], KLUE)["counts"] == NONE | {error.kind: 1}


def test_what_is_correct_is_no_error():
    p = prediction("<서울:LC>에", "<서울:LC>에")
    assert find_errors(p) == []
    assert breakdown([p], KLUE)["counts"] == NONE | {"correct": 1}


def test_entities_that_touch_do_not_overlap():
    assert kinds_of([(0, 2, "LC")], [(2, 4, "LC")]) == [("missed", 0, None), ("spurious", None, 2)]
    assert kinds_of([(2, 4, "LC")], [(0, 2, "LC")]) == [("spurious", None, 0), ("missed", 2, None)]


def test_entities_of_one_character_overlap():
    assert kinds_of([(2, 3, "LC")], [(2, 3, "PS")]) == [("type", 2, 2)]


def test_an_error_keeps_the_score_of_its_own_entity():
    p = prediction_of("서울 부산", [], [(0, 2, "LC", 0.25), (3, 5, "LC", 0.75)])
    assert [(e.predicted.start, e.score) for e in find_errors(p)] == [(0, 0.25), (3, 0.75)]


@pytest.mark.parametrize(
    ("gold", "predicted", "errors"),
    [
        pytest.param(
            [(0, 9, "PS")], [(0, 4, "OG"), (5, 9, "PS")], [("spurious", None, 0), ("boundary", 0, 5)], id="same type"
        ),
        pytest.param(
            [(0, 4, "OG"), (5, 9, "PS")], [(0, 9, "PS")], [("missed", 0, None), ("boundary", 5, 0)], id="of two gold"
        ),
        pytest.param(
            [(0, 4, "PS"), (4, 10, "PS")],
            [(3, 9, "PS")],
            [("missed", 0, None), ("boundary", 4, 3)],
            id="more in common",
        ),
        pytest.param(
            [(0, 4, "OG"), (6, 9, "PS")],
            [(3, 8, "PS"), (8, 9, "OG")],
            [("both", 0, 3), ("both", 6, 8)],
            id="more pairs",
        ),
    ],
)
def test_an_entity_that_overlaps_two_is_aligned_with_one(gold, predicted, errors):
    assert kinds_of(gold, predicted) == errors
    assert kinds_of(gold[::-1], predicted[::-1]) == errors


def test_what_shares_less_than_a_percent_of_the_gold_entity_does_not_overlap():
    assert kinds_of([(0, 100, "LC")], [(99, 101, "LC")]) == [("boundary", 0, 99)]
    assert kinds_of([(0, 101, "LC")], [(100, 102, "LC")]) == [("missed", 0, None), ("spurious", None, 100)]


def test_the_breakdown_counts_kinds_by_gold_type_and_scores_the_four_schemes():
    scores = breakdown(
        [
            prediction("비가 온다", "비가 온다"),
            # correct PS, boundary LC, type QT, both OG
            prediction("<김:PS>이 <서울:LC>시 <둘:QT> <한국:OG>은행", "<김:PS>이 <서울시:LC> <둘:TI> <한국은행:LC>"),
            # missed DT, spurious PS
            prediction("<오늘:DT> 하늘이", "오늘 <하늘:PS>이"),
        ],
        KLUE,
    )
    assert scores["counts"] == dict.fromkeys(KINDS, 1)
    assert scores["by_type"] == {
        "DT": NONE | {"missed": 1},
        "LC": NONE | {"boundary": 1},
        "OG": NONE | {"both": 1},
        "PS": NONE | {"correct": 1, "spurious": 1},
        "QT": NONE | {"type": 1},
        "TI": NONE,
    }
    # Five gold and five predicted entities; partial is (2 + 2/2) / 5.
    assert our_counts(scores) == {
        "strict": [1, 3, 0, 1, 1],
        "exact": [2, 2, 0, 1, 1],
        "partial": [2, 0, 2, 1, 1],
        "ent_type": [2, 2, 0, 1, 1],
    }
    f1 = {"strict": 1 / 5, "exact": 2 / 5, "partial": 3 / 5, "ent_type": 2 / 5}
    for scheme, figures in scores["schemes"].items():
        assert (figures["precision"], figures["recall"], figures["f1"]) == pytest.approx((f1[scheme],) * 3)


def test_precision_and_recall_have_their_own_denominators():
    strict = breakdown([prediction("<김:PS>과 <이:PS>와 <박:PS>", "<김:PS>과 이와 박")], KLUE)["schemes"]["strict"]
    assert (strict["precision"], strict["recall"], strict["f1"]) == pytest.approx((1, 1 / 3, 1 / 2))


@pytest.mark.parametrize("parts", [[], [prediction("비가 온다", "비가 온다")]])
def test_the_breakdown_of_nothing_is_0(parts):
    figures = ("correct", "incorrect", "partial", "missed", "spurious", "precision", "recall", "f1")
    assert breakdown(parts, KLUE) == {
        "counts": NONE,
        "by_type": dict.fromkeys(KLUE.types, NONE),
        "schemes": dict.fromkeys(SCHEMES, dict.fromkeys(figures, 0)),
    }


@settings(deadline=None)
@given(st.lists(predictions()))
def test_the_kinds_add_up_to_the_schemes(parts):
    scores = breakdown(parts, KLUE)
    assert json.loads(json.dumps(scores)) == scores
    correct, boundary, type_, both, missed, spurious = scores["counts"].values()
    assert our_counts(scores) == {
        "strict": [correct, boundary + type_ + both, 0, missed, spurious],
        "exact": [correct + type_, boundary + both, 0, missed, spurious],
        "partial": [correct + type_, 0, boundary + both, missed, spurious],
        "ent_type": [correct + boundary, type_ + both, 0, missed, spurious],
    }
    span = span_scores((p.gold, p.predicted) for p in parts)
    assert {f: span[f] for f in ("precision", "recall", "f1")} == pytest.approx(
        {f: scores["schemes"]["strict"][f] for f in ("precision", "recall", "f1")}
    )


@settings(deadline=None)
@given(st.lists(predictions(), min_size=1))
def test_the_library_finds_as_many_pairs_in_whole_sentences(parts):
    ours, theirs = our_counts(breakdown(parts, KLUE)), library_counts(parts)
    for scheme in ("strict", "exact", "partial"):
        assert ours[scheme] == theirs[scheme]


@settings(deadline=None)
@given(predictions())
def test_the_library_agrees_on_types_where_no_entity_overlaps_two(p):
    def overlaps(entities, others):
        return [sum(e.start < o.end and o.start < e.end for o in others) for e in entities]

    if max([*overlaps(p.gold, p.predicted), *overlaps(p.predicted, p.gold)], default=0) < 2:
        assert our_counts(breakdown([p], KLUE)) == library_counts([p])


@settings(deadline=None)
@given(predictions())
def test_every_entity_stands_in_one_error_or_is_correct(p):
    errors = find_errors(p)
    exact = set(p.gold) & set(p.predicted)
    assert sorted([e.gold for e in errors if e.gold] + list(exact)) == sorted(p.gold)
    assert sorted([e.predicted for e in errors if e.predicted] + list(exact)) == sorted(p.predicted)
    assert errors == sorted(errors, key=lambda e: e.gold or e.predicted)
